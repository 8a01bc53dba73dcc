"""What a long video costs: memory and CPU time of every stage while the whole line runs over ten minutes of 1080p.

    python -m benchmarks.long_video                 # over an hour of CPU
    python -m benchmarks.long_video --minutes 1
    python -m benchmarks.long_video --folder DIR    # keeps the project; the same command again goes on

The video is the rendered orbit to and fro, enlarged and noisy, at 30 frames per second. Snakemake runs as a user starts it, with
the cpu preset; the processes of each job are looked at four times a second. PSS counts memory that processes share once.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import yaml

from benchmarks.timing import parser
from stages.sample import render
from videolift.stage_table import STAGES

ROOT = Path(__file__).resolve().parents[1]
EVERY_S = 0.25


def write_long_video(path: Path, minutes: float, width: int = 1920, height: int = 1080, fps: int = 30) -> None:
    """Rendered seconds to and fro, enlarged and noisy, their packets repeated: no long encoding, full decoding."""
    rng = np.random.default_rng(0)
    rgb = render("orbit", frames=60, width=480, height=270).rgb
    there_and_back = np.concatenate([rgb, rgb[-2:0:-1]]).repeat(3, axis=0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "21", "g": str(fps)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        packets = []
        for image in there_and_back:
            large = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
            noisy = cv2.add(large, rng.integers(0, 12, large.shape, np.uint8))
            packets += stream.encode(av.VideoFrame.from_ndarray(noisy, "rgb24"))
        packets += stream.encode()
        loop = round(Fraction(len(there_and_back), fps) / packets[0].time_base)
        for repeat in range(max(1, round(minutes * 60 * fps / len(there_and_back)))):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.stream, copy.time_base, copy.is_keyframe = stream, packet.time_base, packet.is_keyframe
                copy.pts, copy.dts = (packet.pts or 0) + repeat * loop, (packet.dts or 0) + repeat * loop
                copy.duration = round(Fraction(1, fps) / packet.time_base)
                file.mux(copy)


class Watch:
    """Peak memory and CPU time of the jobs below a process, by stage."""

    def __init__(self, head: psutil.Process) -> None:
        self.head = head
        self.peak_bytes: dict[str, int] = defaultdict(int)
        self.cpu_s: dict[str, dict[int, float]] = defaultdict(dict)
        self.wall_s: dict[str, float] = defaultdict(float)

    def look(self) -> None:
        """Adds what is to be seen now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for job in self.head.children(recursive=True):
                if stage := _stage_of(job.cmdline()):
                    self._look_at(stage, [job, *job.children(recursive=True)])

    def _look_at(self, stage: str, processes: list[psutil.Process]) -> None:
        held = 0
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                held += process.memory_full_info().pss
                times = process.cpu_times()
                self.cpu_s[stage][process.pid] = times.user + times.system
        self.peak_bytes[stage] = max(self.peak_bytes[stage], held)
        self.wall_s[stage] += EVERY_S


def _stage_of(command: list[str]) -> str:
    """The stage whose job a command line is, "" for others: ``python ... -m stages STAGE --batch ...``."""
    if "-m" in command and "--batch" in command and command[command.index("-m") + 1] == "stages":
        return command[command.index("stages") + 1]
    return ""


def run(folder: Path, minutes: float) -> None:
    """Makes the project where it is not there yet, runs it and prints a line per stage."""
    if not (folder / "config.yaml").exists():
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        write_long_video(folder / "videos" / "long.mp4", minutes)
        (folder / "config.yaml").write_text(yaml.safe_dump({"videos": "videos", "output": "output"}), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", str(os.cpu_count())]
    head = psutil.Popen(command, cwd=folder)
    watch = Watch(head)
    while head.poll() is None:
        watch.look()
        time.sleep(EVERY_S)
    for stage in STAGES:
        if stage in watch.peak_bytes:
            peak, cpu = watch.peak_bytes[stage] / 2**30, sum(watch.cpu_s[stage].values())
            print(f"{stage:10} peak PSS {peak:.2f} GiB   CPU {cpu:6.0f} s   wall {watch.wall_s[stage]:6.0f} s")
    sys.exit(head.returncode)


def main() -> None:
    """See the module."""
    command = parser(__doc__)
    command.add_argument("--minutes", type=float, default=10.0)
    command.add_argument("--folder", type=Path, help="keeps everything; else a temporary folder")
    options = command.parse_args()
    with contextlib.ExitStack() as stack:
        run(options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory())), options.minutes)


if __name__ == "__main__":
    main()
