"""What planning, resuming and looking cost with 1,000, 10,000 and 100,000 videos: seconds, CPU seconds, peak memory.

    python -m benchmarks.scale [--sizes 1000 10000 100000] [--done-up-to 10000] [--only-done] [--folder /tmp/scale]

Makes up projects in which nothing or everything is done: videos and artifacts are empty files, receipts and manifests are as the
stages write them, so that every decision is taken on real files. No stage runs. Each figure is one whole process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.timing import parser
from stages.engine.plan import ALL, Plan, make_plan
from stages.settings import load_config
from videolift.records import manifests
from videolift.records.freshness import Variant
from videolift.records.journal import Journal
from videolift.records.manifests import Manifest, ManifestRows, Row
from videolift.records.receipts import ArtifactRecord, Receipt, fingerprint
from videolift.records.runs import Entry
from videolift.stage_table import PACKAGING, SPECS, STAGES, STATISTICS
from videolift.store import sha256_of

ROOT = Path(__file__).resolve().parents[1]
BYTES = 5_000_000
_JOB_PARSE = """
import os, sys, time
sys.path.insert(0, {root!r})
import snakemake.api, yaml
class Workflow: is_main_process = False
os.environ["VIDEOLIFT_RUN"] = {run!r}
began = time.process_time()
from stages.engine.session import Session
session = Session.start(yaml.safe_load(open("config.yaml")), Workflow)
for stage in ("ingest", "depth", "tracks", "hands", "create_h5"):
    session.reach(stage), session.threads(stage), session.prerequisites(stage), session.resources(stage)
session.upstream("create_h5", "0000")
print(time.process_time() - began, file=sys.stderr)
"""


def make_videos(folder: Path, count: int, **more: object) -> None:
    """Listed videos in 100 folders, of different lengths; ``more`` settings."""
    for i in range(count):
        path = folder / "videos" / f"{i % 100:02d}" / f"take{i:06d}.mp4"
        if i < 100:
            path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.truncate(BYTES + i)
    settings = {"videos": "videos", "output": "output", "max_quarantined": count, **more}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))


def finish(folder: Path, packaged: Sequence[Path] = ()) -> None:
    """Makes everything done, as if all stages had run.

    Args:
        packaged: real files to link the packaged ones to; nothing is then said to be published yet.
    """
    plan = make_plan(load_config(folder / "config.yaml"), folder)
    plan.write(cores=2, with_minutes=False)
    done: dict[tuple[str, str], list[Receipt]] = {}
    for stage in STAGES:
        plan.layout.manifests(stage).mkdir(parents=True)
    for entry in plan.entries:
        for receipt in finish_video(plan, entry, plan.variants[entry.variant], packaged):
            done.setdefault((receipt.stage, entry.batch), []).append(receipt)
    for (stage, batch), receipts in done.items():
        with Journal.take_over(plan.layout.journals(stage), batch, handed_over=receipts) as journal:
            path = journal.path
        target = plan.targets[stage][batch]
        found = {receipt.video: Row("done", receipt.artifact, receipt.seconds) for receipt in receipts}
        manifest = Manifest(
            stage,
            batch,
            target.token,
            target.generation,
            ManifestRows.of(found),
            manifests.stamp(path, plan.layout.output),
            (receipts[0].backend,),
        )
        manifests.write_manifest(plan.manifest(stage, batch), manifest)
    if packaged:
        return
    target = plan.targets[STATISTICS][ALL]
    plan.layout.manifests(STATISTICS).mkdir(parents=True)
    manifests.write_manifest(
        plan.manifest(STATISTICS, ALL), Manifest(STATISTICS, ALL, target.token, target.generation, ManifestRows.of({}))
    )
    # A finished run has left a page that is newer than its last job.
    plan.layout.report.parent.mkdir(parents=True)
    plan.layout.report.touch()


def finish_video(plan: Plan, entry: Entry, variant: Variant, packaged: Sequence[Path]) -> list[Receipt]:
    video, receipts = entry.video, []
    hashes: dict[str, str] = {}
    for stage in (stage for stage in STAGES if variant.identities[stage] is not None):
        inputs = {name: hashes[name] for name in SPECS[stage].reads if name in hashes}
        files = {"path": (video.bytes, video.mtime_ns)} if stage == "ingest" else {}
        if stage == "ingest":
            inputs["path"] = sha256_of(video.id)
        if stage == "create_h5":
            inputs["row"] = sha256_of([video.text, video.subject, video.split, video.metadata])
        path = plan.layout.artifact(stage, video.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        if stage == PACKAGING and packaged:
            os.link(packaged[video.bytes % len(packaged)], path)
        else:
            path.touch()
        hashes[stage] = sha256_of([stage, video.id])
        stat = path.stat()
        record = ArtifactRecord(path.relative_to(plan.layout.output).as_posix(), stat.st_size, stat.st_mtime_ns, hashes[stage])
        identity = variant.identities[stage] or {}
        receipt = Receipt(
            video=video.id,
            stage=stage,
            state="done",
            fingerprint=fingerprint(stage, identity, inputs),
            backend=identity,
            inputs=inputs,
            files=files,
            artifact=record,
            seconds=30.0,
            frames=600,
            source=video.path,
        )
        receipts.append(receipt)
    return receipts


def measure(folder: Path, *command: str) -> dict[str, float]:
    """Wall seconds, CPU seconds and peak memory in MB of one process, its children included."""
    began, before = time.monotonic(), os.times()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a second start finds compiled modules
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        last = said.read().strip().splitlines()[-1:]
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    figures = {"wall_s": time.monotonic() - began, "cpu_s": cpu_s, "peak_mb": usage.ru_maxrss / 1024, "code": process.returncode}
    return figures | ({"printed": float(last[0])} if last and last[0].replace(".", "", 1).isdigit() else {})


def measurements(folder: Path, *, done: bool) -> dict[str, tuple[str, ...]]:
    snakemake = ("-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-q", "--cores", "2")
    wanted = {"videolift plan": ("-m", "stages.engine.plan_report"), "snakemake -n": (*snakemake, "-n")}
    if done:
        wanted["snakemake, nothing to do"] = snakemake
        wanted["videolift status"] = ("-c", "from videolift.cli import main; main()", "status")
        plan = make_plan(load_config(folder / "config.yaml"), folder)
        wanted["a job's own parse"] = ("-c", _JOB_PARSE.format(root=str(ROOT), run=str(plan.run)))
    return wanted


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000])
    command.add_argument("--done-up-to", type=int, default=10_000, help="largest project in which everything is done")
    command.add_argument("--only-done", action="store_true", help="leave out projects in which nothing is done")
    command.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "videolift-scale")
    options = command.parse_args()
    print(f"{'videos':>7}  {'state':<5} {'what':<26} {'wall s':>8} {'CPU s':>8} {'peak MB':>8}")
    for count in options.sizes:
        states = [done for done in (False, True) if (done or not options.only_done) and (not done or count <= options.done_up_to)]
        for done in states:
            folder = options.folder / f"{count}-{'done' if done else 'new'}"
            if not folder.exists():
                make_videos(folder, count)
                if done:
                    finish(folder)
            for what, words in measurements(folder, done=done).items():
                found = measure(folder, *words)
                note = f"   of which {found['printed']:.2f} CPU s ours" if "printed" in found else ""
                note += f"   exit code {found['code']:.0f}" if found["code"] else ""
                figures = f"{found['wall_s']:>8.1f} {found['cpu_s']:>8.1f} {found['peak_mb']:>8.0f}"
                print(f"{count:>7}  {'done' if done else 'new':<5} {what:<26} {figures}{note}", flush=True)
    if options.folder == command.get_default("folder"):
        shutil.rmtree(options.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
