"""Runs the real workflow in a folder of its own, interrupts it, and compares what it leaves with an undisturbed run."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from stages.sample import write_sample
from videolift.paths import Layout
from videolift.records.journal import journal_numbers, read_journal
from videolift.records.receipts import Receipt, read_receipt
from videolift.records.record_reader import RecordReader

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
STAGES = ("ingest", "depth", "tracks", "hands", "create_h5")


@dataclass
class Project:
    """A folder with videos, a configuration and an output."""

    folder: Path
    seconds: float = 0.2
    """What each stage takes per clip."""
    where: tuple[str, ...] = ("--cores", "2")
    """Arguments that say where the work is done."""

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def layout(self) -> Layout:
        return Layout(self.output)

    def receipt(self, stage: str, video: str) -> Receipt | None:
        """What is recorded of a stage and video."""
        return RecordReader(self.layout)(stage, video)

    @property
    def log(self) -> Path:
        return self.folder / "work.log"

    def start(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Snakemake as a user starts it, in a process group of its own."""
        out = (self.folder / "terminal.log").open("a", encoding="utf-8")
        outside = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        ours = {"VIDEOLIFT_TEST_LOG": str(self.log), "VIDEOLIFT_TEST_SECONDS": str(self.seconds)}
        ours |= environment or {}
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), *self.where, *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=out, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=outside | ours
        )

    def run(self, *arguments: str, timeout: float = 240) -> int:
        """The exit code of a whole run."""
        return self.start(*arguments).wait(timeout)

    def resume(self) -> int:
        """The same command again, after ``--unlock`` where Snakemake asks for it."""
        code = self.run()
        if "--unlock" in self.terminal().rsplit("Building DAG of jobs", 1)[-1] and code != 0:
            assert self.run("--unlock") == 0
            code = self.run()
        return code

    def terminal(self) -> str:
        """Everything printed so far."""
        return (self.folder / "terminal.log").read_text(encoding="utf-8")

    def finished(self) -> dict[tuple[str, str], int]:
        """(stage, video) of every receipt that says done, and when its artifact was written; writing it anew changes that."""
        found = {}
        for stage in STAGES:
            folder = self.layout.journals(stage)
            journals = filter(None, (read_journal(folder, batch) for batch in journal_numbers(folder)))
            receipts = [record.receipt for journal in journals for record in journal.records.values()]
            receipts += [read_receipt(path) for path in self.layout.receipts(stage).glob("*.json")]
            for receipt in filter(None, receipts):
                if receipt.state == "done" and receipt.artifact is not None:
                    found[stage, receipt.video] = receipt.artifact.mtime_ns
        return found

    def begun(self) -> list[tuple[str, str]]:
        """(stage, video) of every piece of work ever begun, in order."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return [(stage, video) for stage, video, what in map(str.split, lines) if what == "begin"]

    def results(self) -> dict[str, str]:
        """Content hash of everything in the dataset folder and of every artifact."""
        folders = ("frames", "depth", "tracks_3d", "hand_poses", "h5_dataset")
        files = [path for name in folders for path in sorted((self.output / name).rglob("*")) if path.is_file()]
        return {path.relative_to(self.output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make_project(folder: Path, *, videos: int = 3, seconds: float = 0.2, **settings: object) -> Project:
    """A project whose stages are the quick ones of tests/fixtures."""
    (folder / "videos").mkdir(parents=True)
    for i in range(videos):
        (folder / "videos" / f"clip{i}.mp4").write_bytes(random.Random(i).randbytes(5000))
    config = {"videos": "videos", "output": "output", "lease_wait_s": 60}
    config |= {stage: {"backend": str(FIXTURES / f"quick_{stage}.py")} for stage in STAGES}
    if not seconds:  # a second worker would start for nothing
        config["pool"] = {"max_workers": 1}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | settings), encoding="utf-8")
    return Project(folder, seconds)


def make_real_project(folder: Path) -> Project:
    """Two clips through the cpu preset: two seconds of one with depth, and five of one without, which show its focal length."""
    write_sample(folder / "sample")
    rows = [["video", "path", "depth", "end"], ["orbit", "sample/orbit.mp4", "", "5"]]
    rows.append(["orbit_rgbd", "sample/orbit_rgbd.mp4", "sample/orbit_rgbd.npz", "2"])
    (folder / "videos.csv").write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump({"videos": "videos.csv", "output": "output"}), encoding="utf-8")
    return Project(folder)


def wait_for_quiet(group: int, *, timeout: float = 120) -> None:
    """Waits until nothing of a process session is alive any more."""
    until = time.monotonic() + timeout
    while alive(group):
        assert time.monotonic() < until, f"still alive: {alive(group)}"
        time.sleep(0.05)


def alive(session: int) -> list[psutil.Process]:
    """Processes of a session, zombies aside."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess, PermissionError):
            continue
    return found


def job_of(head: subprocess.Popen[str]) -> psutil.Process | None:
    """The running ``python -m stages`` process of a head process, None between jobs."""
    for process in psutil.Process(head.pid).children(recursive=True):
        try:
            line = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if "-m" in line and "stages" in line and "--batch" in line and Path(line[0]).name.startswith("python"):
            return process
    return None


def interrupt(head: subprocess.Popen[str], what: signal.Signals, whom: str) -> str:
    """Sends a signal to ``snakemake``, the running ``job`` or the whole ``group``; the stage that was hit, "" between two jobs."""
    job = job_of(head)
    if job is None:
        return ""
    line = job.cmdline()
    if whom == "group":
        os.killpg(head.pid, what)
    elif whom == "snakemake":
        head.send_signal(what)
    else:
        job.send_signal(what)
    return line[line.index("stages") + 1] if "stages" in line else ""


def forget_snakemake(project: Project) -> None:
    """Deletes Snakemake's own records; ours must not need them."""
    shutil.rmtree(project.folder / ".snakemake", ignore_errors=True)
