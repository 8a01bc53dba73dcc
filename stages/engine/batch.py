"""One stage over one batch: what a rule's shell runs and a person can paste.

Takes the batch's lease, asks the receipts what is stale, gives the stale videos to the pool, and writes the manifest last. One bad
file does not stop the others: the exit code is 0 when every video is done, quarantined or blocked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.engine import release
from stages.engine.budget import Budget
from stages.engine.ledger import ReceiptLedger
from stages.engine.worker import Damaged, Job, WorkerFactory
from stages.registry import backend_class
from videolift.errors import ExitCode
from videolift.pool import Device, EventSink, Item, PoolReport, cpu_device, find_devices, run_pool
from videolift.records.freshness import StageState, judge, reopened
from videolift.records.leases import Lease, patience_s
from videolift.records.manifests import Manifest, Row, Target, remove_older, write_manifest
from videolift.records.receipts import Receipt, ReceiptCache, write_receipt
from videolift.records.runs import Entry, Run
from videolift.stage_table import PACKAGING, SPECS, with_upstream
from videolift.store import sha256_of

log = logging.getLogger("videolift")


@dataclass(frozen=True)
class Work:
    """A stale video and what is known of it."""

    entry: Entry
    states: Mapping[str, StageState]
    identity: Mapping[str, Any]


def run_batch(run: Run, target: Target, manifest: Path, *, cores: int) -> ExitCode:
    """Does what is to be done and writes ``manifest``.

    Raises:
        LeaseHeld: another run works on this batch.
        VideoliftError: as the pool's outcome demands; see the exit codes.
    """
    layout, config = run.layout, run.config
    path = layout.lease(target.stage, target.batch)
    wait_s = patience_s(path) if "SLURM_JOB_ID" in os.environ else config.lease_wait_s
    with Lease.acquire(path, wait_s=wait_s) as lease:
        entries = [entry for entry in run.entries(target.batch) if entry.chosen]
        read = ReceiptCache(layout)
        work: list[Work] = []
        for entry in entries:
            variant = run.variants[entry.variant]
            states = judge(
                entry.video, variant, read, layout.output, stages=(target.stage,), vanished=entry.vanished, hash_new=True
            )
            state = states[target.stage]
            if state.touched and state.receipt:
                _refresh(run, target.stage, entry, state)
            if state.is_released:
                state = reopened(judge(entry.video, variant, read, layout.output))[target.stage]
            identity = variant.identities[target.stage]
            if state.kind in ("todo", "stale") and state.fingerprint and identity is not None:
                work.append(Work(entry, states, identity))
        log.info("%s %s: %d videos, %d to do", target.stage, target.batch, len(entries), len(work))
        code = _do(run, target, work, lease, cores)
        if code != ExitCode.OK:
            return code
        rows = _rows(run, target.stage, entries)
        pending = [video for video, row in rows.items() if row.state in ("todo", "stale")]
        if pending:
            log.error("%s %s: %d videos are not done: %s", target.stage, target.batch, len(pending), ", ".join(pending[:10]))
            return ExitCode.LOST
        if target.stage == PACKAGING:
            freed = release.release(run, target.batch, (video for video, row in rows.items() if row.state == "done"))
            if freed:
                log.info("%s %s: deleted %.2f GB of artifacts not listed in `keep`", target.stage, target.batch, freed / 1e9)
        write_manifest(manifest, Manifest(target.stage, target.batch, target.token, target.generation, rows))
        remove_older(manifest.parent, target)
    return ExitCode.OK


def _do(run: Run, target: Target, work: list[Work], lease: Lease, cores: int) -> ExitCode:
    groups: dict[str, list[Work]] = {}
    for one in work:
        groups.setdefault(sha256_of(one.identity), []).append(one)
    damaged: list[str] = []
    for group in groups.values():
        report = _pool(run, target, group, lease, cores)
        for video, outcome in report.outcomes.items():
            if isinstance(outcome.value, Damaged):
                damaged += _set_aside(run, video, outcome.value)
        if report.stopped:
            return _stop(report)
    for line in damaged:
        log.error("%s", line)
    return ExitCode.LOST if damaged else ExitCode.OK


def _pool(run: Run, target: Target, group: list[Work], lease: Lease, cores: int) -> PoolReport:
    stage, layout = target.stage, run.layout
    variant = run.variants[group[0].entry.variant]
    settings = variant.settings[stage]
    factory = WorkerFactory(
        stage=stage,
        settings=settings,
        folders=(run.config.models_dir, run.config.envs_dir),
        identity=dict(group[0].identity),
        output=layout.output,
        lease=(lease.path, lease.nonce),
    )
    jobs = {one.entry.video.id: _job(stage, one) for one in group}
    ledger = ReceiptLedger(layout, stage, jobs, dict(group[0].identity), Budget(layout, run.config.disk_budget_gb))
    items = [Item(key, _size(one), jobs[key], ledger.charged(key)) for one in group for key in [one.entry.video.id]]
    chain = [variant.identities[name] for name in with_upstream(stage)]
    log.info("%s: %d videos with %s", stage, len(items), settings["backend"])
    with closing(EventSink(layout.events(stage, target.batch), name=f"{stage} {target.batch}")) as events:
        return run_pool(
            factory,
            items,
            devices=_devices(backend_class(stage, settings["backend"]).device, cores),
            settings=run.config.pool,
            ledger=ledger,
            events=events,
            log_folder=layout.batch_log(stage, target.batch).parent / "workers" / target.batch,
            history=layout.pool_history,
            label=f"{stage} {settings['backend']} {sha256_of(chain)[:12]}",
        )


def _devices(kind: str, cores: int) -> list[Device]:
    return find_devices("cuda") if kind == "cuda" else [cpu_device(cores)]


def _job(stage: str, work: Work) -> Job:
    state = work.states[stage]
    upstream = {
        name: above.receipt.artifact.sha256
        for name in SPECS[stage].reads
        if (above := work.states[name]).kind == "done" and above.receipt and above.receipt.artifact
    }
    missing = {name: above.why for name in SPECS[stage].reads if (above := work.states[name]).kind in ("quarantined", "blocked")}
    lineage = {name: _lineage(receipt) for name in upstream if (receipt := work.states[name].receipt)}
    return Job(work.entry.video, state.fingerprint, dict(state.inputs), dict(state.files), upstream, missing, lineage)


def _lineage(receipt: Receipt) -> dict[str, Any]:
    """What the dataset says of an upstream stage; nothing of when and where it ran, so that equal work gives equal bytes."""
    figures = dict(receipt.figures)
    return {"backend": dict(receipt.backend), "shrink": receipt.shrink, "checks": list(receipt.checks), "figures": figures}


def _size(work: Work) -> float:
    frames = [state.receipt.frames for state in work.states.values() if state.kind == "done" and state.receipt]
    return float(max(frames, default=0) or work.entry.video.bytes or 1)


def _refresh(run: Run, stage: str, entry: Entry, state: StageState) -> None:
    receipt = state.receipt
    if receipt is None or receipt.artifact is None:
        return
    stat = (run.layout.output / receipt.artifact.path).stat()
    artifact = replace(receipt.artifact, bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)
    write_receipt(run.layout.receipt(stage, entry.video.id), replace(receipt, artifact=artifact, files=state.files))


def _rows(run: Run, stage: str, entries: Iterable[Entry]) -> dict[str, Row]:
    read, rows = ReceiptCache(run.layout), {}
    for entry in entries:
        states = judge(entry.video, run.variants[entry.variant], read, run.layout.output, stages=(stage,), vanished=entry.vanished)
        state = states[stage]
        artifact = state.receipt.artifact if state.receipt and state.kind == "done" else None
        rows[entry.video.id] = Row("released" if state.is_released else state.kind, artifact)
    return rows


def _set_aside(run: Run, video: str, damaged: Damaged) -> list[str]:
    lines = []
    for stage in damaged.stages:
        path = run.layout.artifact(stage, video)
        if path.exists():
            path.rename(path.with_name(path.name + ".damaged"))
        lines.append(
            f"{video}: its {stage} artifact is damaged ({damaged.text}); kept as {path.name}.damaged. Run the same command again."
        )
    return lines


def _stop(report: PoolReport) -> ExitCode:
    log.error("stopped: %s", report.text or report.stopped)
    if report.stopped == "signal":
        return ExitCode(128 + (report.signal or 2))
    return {"transient": ExitCode.STORAGE, "backend": ExitCode.BACKEND}[str(report.stopped)]
