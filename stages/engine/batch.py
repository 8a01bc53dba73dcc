"""One stage over one batch: what a rule's shell runs and a person can paste.

Takes the batch's lease, asks its journal what is stale, gives the stale videos to the pool, and writes the manifest last. One bad
file does not stop the others: the exit code is 0 when every video is done, quarantined or blocked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.engine import release
from stages.engine.budget import Budget
from stages.engine.ledger import JournalLedger
from stages.engine.verification import verify_unread
from stages.engine.worker import Damaged, Job, WorkerFactory
from stages.registry import backend_class
from videolift.errors import ExitCode
from videolift.pool import EventSink, Item, PoolReport, devices_for, run_pool
from videolift.records.batches import Assignment
from videolift.records.freshness import UNREADABLE, StageState, judge, reopened
from videolift.records.journal import Journal
from videolift.records.leases import Lease, patience_s
from videolift.records.manifests import Manifest, ManifestRows, Row, Target, remove_older, stamp, write_manifest
from videolift.records.receipts import Reason, Receipt, carried_facts
from videolift.records.record_reader import RecordReader, hold_journal
from videolift.records.recovery import packaging_inputs, read_back, read_back_released
from videolift.records.runs import Entry, Run
from videolift.stage_table import PACKAGING, SPECS, with_upstream
from videolift.store import sha256_of

log = logging.getLogger("videolift")


@dataclass(frozen=True)
class StaleVideo:
    """A video that has work to do, and what is known of it."""

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
    # A job on SLURM that waits holds its card; there the queue does the waiting (`cluster.turn`).
    wait_s = patience_s(path) if "SLURM_JOB_ID" in os.environ else config.lease_wait_s
    with Lease.acquire(path, wait_s=wait_s) as lease:
        # Read once: of a hundred thousand videos it takes a tenth of a second, and a job looks at its records four times.
        batches = Assignment.load(layout.assignment).batches
        with hold_journal(layout, target.stage, target.batch, batches) as journal:
            if journal.damaged:
                log.warning("%s: lines %s are damaged; what they recorded is made again", journal.path, _listed(journal.damaged))
            batch = _HeldBatch(run, target, lease, journal, cores, batches)
            code = batch.work_off()
            # Read anew after the work: what a killed worker had published counts as done.
            rows = batch.rows() if code == ExitCode.OK else {}
        pending = [video for video, row in rows.items() if row.state in ("todo", "stale")]
        if pending:
            log.error("%s %s: %d videos are not done: %s", target.stage, target.batch, len(pending), _listed(pending))
        if code != ExitCode.OK or pending:
            return code or ExitCode.LOST
        if target.stage == PACKAGING:
            from stages.engine.batch_previews import draw_previews  # PyAV and the report, which no other stage's job needs

            draw_previews(layout, config.preview, [video for video, row in rows.items() if row.state == "done"])
        done = (journal.records[video].receipt for video, row in rows.items() if row.artifact and video in journal.records)
        backends = {sha256_of(receipt.backend): receipt.backend for receipt in done if receipt is not None}
        read_from = stamp(journal.path, layout.output)  # only now: it was closed, and does not change any more
        write_manifest(
            manifest,
            Manifest(
                target.stage,
                target.batch,
                target.token,
                target.generation,
                ManifestRows.of(rows),
                journal=read_from,
                backends=(*backends.values(),),
            ),
        )
        remove_older(manifest.parent, target)
    return ExitCode.OK


@dataclass(frozen=True)
class _HeldBatch:
    """One stage over one batch, whose lease and journal this process holds."""

    run: Run
    target: Target
    lease: Lease
    journal: Journal
    cores: int
    batches: Mapping[str, int]

    def work_off(self) -> ExitCode:
        """Does every stale video; lets go of artifacts that are not kept once the last stage is done.

        One pool does after the other: videos of one backend and its settings together, suspects last and one by one. A suspect was
        in work when an earlier run died. If it fills the memory, it takes nobody with it.
        """
        run, stage, layout = self.run, self.target.stage, self.run.layout
        # A model is loaded once per group, since a pool serves one backend with one set of settings.
        groups: dict[str, list[StaleVideo]] = {}
        suspects: list[tuple[int, list[StaleVideo]]] = []
        for one in self._stale_videos():
            record = self.journal.records.get(one.entry.video.id)
            if record is not None and record.blame is not None and record.is_suspect(one.states[stage].fingerprint):
                suspects.append((record.blame.deaths, [one]))
            else:
                groups.setdefault(sha256_of(one.identity), []).append(one)
        suspects.sort(key=lambda suspect: suspect[0])  # the one that was in work at the fewest deaths goes first
        damaged: list[str] = []
        for group in [*groups.values(), *(group for _, group in suspects)]:
            report = self._pool(group)
            for video, outcome in report.outcomes.items():
                for above in outcome.value.stages if isinstance(outcome.value, Damaged) else ():
                    path = layout.artifact(above, video)
                    # Aside, not away: what it was made from may be gone, and a person may want to look at it.
                    aside = path.with_name(path.name + ".damaged")
                    if path.exists():
                        path.rename(aside)
                    text = f"{video}: its {above} artifact is damaged ({outcome.value.text}); kept as {aside.name}."
                    damaged.append(f"{text} Run the same command again.")
            if report.stopped:
                log.error("stopped: %s", report.text or report.stopped)
                if report.stopped == "signal":
                    return ExitCode(128 + (report.signal or 2))
                return {"transient": ExitCode.STORAGE, "backend": ExitCode.BACKEND}[str(report.stopped)]
        for line in damaged:
            log.error("%s", line)
        if damaged:
            return ExitCode.LOST
        if stage == PACKAGING:
            # Before artifacts above it go: a damaged file is packaged again from them.
            for video in verify_unread(layout, self.journal, [entry.video.id for entry in self._entries()]):
                log.error("%s: its packaged file failed verification and is quarantined; it is kept as *.damaged", video)
            freed = release.release(run, self.target.batch, self.journal, self._reader())
            if freed:
                log.info("%s %s: deleted %.2f GB of artifacts not listed in `keep`", stage, self.target.batch, freed / 1e9)
        return ExitCode.OK

    def _stale_videos(self) -> list[StaleVideo]:
        """Videos that have work to do; on the way, lost records are read back from the files that carry them."""
        run, stage, layout = self.run, self.target.stage, self.run.layout
        entries = self._entries()
        read, stale = self._reader(), []
        for entry in entries:
            variant, video = run.variants[entry.variant], entry.video.id
            # Where the files say nothing either, the video is done again.
            if read.record(stage, video).is_lost and (
                receipt := read_back(layout, stage, video) or read_back_released(layout, stage, video)
            ):
                self.journal.write(receipt)
                if stage == PACKAGING:
                    inputs = packaging_inputs(layout, video)
                    # These artifacts were released before the record was lost; noted again, or they would be made anew.
                    gone = {name: sha256 for name, sha256 in inputs.items() if not layout.artifact(name, video).exists()}
                    self.journal.released(video, gone)
            states = judge(entry.video, variant, read, run.layout.output, stages=(stage,), vanished=entry.vanished, hash_new=True)
            state = states[stage]
            if state.touched and state.receipt and state.receipt.artifact and state.receipt.state == "done":
                # Its content is as it was; with the size and time of now the next run need not hash it again.
                stat = (run.layout.output / state.receipt.artifact.path).stat()
                artifact = replace(state.receipt.artifact, bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)
                self.journal.write(replace(state.receipt, artifact=artifact, files=state.files))
            if state.is_released:
                state = reopened(judge(entry.video, variant, read, run.layout.output))[stage]
            identity = variant.identities[stage]
            if state.kind not in ("todo", "stale") or not state.fingerprint or identity is None:
                continue
            files = {name: why.removeprefix(UNREADABLE) for name, why in state.inputs.items() if why.startswith(UNREADABLE)}
            if files:
                # Quarantined at once: the backend would fail on the same file, and its content is part of the fingerprint.
                text = "; ".join(f"{getattr(entry.video, name)} cannot be read ({why})" for name, why in files.items())
                remedy = f"Make it readable, or copy it again; then: videolift retry {video}"
                self.journal.write(
                    Receipt(
                        video=video,
                        stage=stage,
                        state="quarantined",
                        fingerprint=state.fingerprint,
                        backend=identity,
                        inputs=state.inputs,
                        files=state.files,
                        # The same code as ingest's own for a file that may not be opened.
                        reason=Reason("bad_input", "unreadable", text, remedy),
                        source=entry.video.path,
                    )
                )
            else:
                stale.append(StaleVideo(entry, states, identity))
        log.info("%s %s: %d videos, %d to do", stage, self.target.batch, len(entries), len(stale))
        return stale

    def rows(self) -> dict[str, Row]:
        """State and artifact of every video, for the manifest."""
        read, rows, stage = self._reader(), {}, self.target.stage
        for entry in self._entries():
            variant = self.run.variants[entry.variant]
            states = judge(entry.video, variant, read, self.run.layout.output, stages=(stage,), vanished=entry.vanished)
            state = states[stage]
            if state.receipt is None or state.kind != "done":
                rows[entry.video.id] = Row(state.kind, seconds=state.receipt.seconds if state.receipt else 0.0)
                continue
            receipt = state.receipt
            rows[entry.video.id] = Row(
                "released" if state.is_released else "done", receipt.artifact, receipt.seconds, receipt.checks
            )
        return rows

    def _entries(self) -> list[Entry]:
        return [entry for entry in self.run.entries(self.target.batch) if entry.chosen]

    def _reader(self) -> RecordReader:
        return RecordReader(self.run.layout, {(self.target.stage, self.target.batch): self.journal}, self.batches)

    def _pool(self, group: list[StaleVideo]) -> PoolReport:
        run, stage, batch, layout = self.run, self.target.stage, self.target.batch, self.run.layout
        variant, identity = run.variants[group[0].entry.variant], dict(group[0].identity)
        settings = variant.settings[stage]
        factory = WorkerFactory(
            stage=stage,
            settings=settings,
            folders=(run.config.models_dir, run.config.envs_dir),
            identity=identity,
            output=layout.output,
            lease=(self.lease.path, self.lease.nonce),
        )
        jobs: dict[str, Job] = {}
        for one in group:
            state, above = one.states[stage], {name: one.states[name] for name in SPECS[stage].reads}
            done = {name: s.receipt for name, s in above.items() if s.kind == "done" and s.receipt and s.receipt.artifact}
            jobs[one.entry.video.id] = Job(
                one.entry.video,
                state.fingerprint,
                inputs=dict(state.inputs),
                files=dict(state.files),
                upstream={name: receipt.artifact.sha256 for name, receipt in done.items() if receipt.artifact},
                missing={name: s.why for name, s in above.items() if s.kind in ("quarantined", "blocked")},
                upstream_facts={name: carried_facts(receipt) for name, receipt in done.items()},
            )
        ledger = JournalLedger(layout, stage, self.journal, jobs, identity, Budget(layout, run.config.disk_budget_gb))
        items = []
        for one in group:
            key = one.entry.video.id
            # Long videos first: frames where a stage has counted them, bytes of the source before that.
            frames = [state.receipt.frames for state in one.states.values() if state.kind == "done" and state.receipt]
            size = float(max(frames, default=0) or one.entry.video.bytes or 1)
            # Attempts that earlier runs have charged to this very work.
            record = self.journal.records.get(key)
            items.append(Item(key, size, jobs[key], record.crashes_for(jobs[key].fingerprint) if record is not None else 0))
        # What the pool has learnt of memory holds for the same chain of backends only.
        chain = [variant.identities[name] for name in with_upstream(stage)]
        log.info("%s: %d videos with %s", stage, len(items), settings["backend"])
        with closing(EventSink(layout.events(stage, batch), name=f"{stage} {batch}")) as events:
            return run_pool(
                factory,
                items,
                devices=devices_for(backend_class(stage, settings["backend"]).device, self.cores),
                settings=run.config.pool,
                ledger=ledger,
                events=events,
                log_folder=layout.batch_log(stage, batch).parent / "workers" / batch,
                history=layout.pool_history,
                label=f"{stage} {settings['backend']} {sha256_of(chain)[:12]}",
            )


def _listed(names: Sequence[object]) -> str:
    return ", ".join(map(str, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
