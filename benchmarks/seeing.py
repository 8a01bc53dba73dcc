"""What looking costs and how far the time left is off: figures of RESULTS.md about report, previews, 3D page and ETA.

python -m benchmarks.seeing eta FOLDER --runs 10     ten runs of different mixes; error of the ETA from a quarter of each on
python -m benchmarks.seeing cost OUTPUT              previews and report of a finished run, in shares of its work
python -m benchmarks.seeing page OUTPUT VIDEO        scripting per frame of the 3D page in a headless Chromium
"""

from __future__ import annotations

import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.timing import cpu_seconds, parser
from stages.registry import ROOT
from stages.sample.clips import CLIPS, FPS, render
from videolift.h264 import H264Writer
from videolift.paths import Layout
from videolift.records.runs import latest_run
from videolift.report import write_preview, write_report, write_scene_page
from videolift.report.progress import ProgressTracker

SIZE, LENGTHS = (320, 240), (14, 28, 44)
"""Pixels and frames of the renderings that runs are mixed from."""


def render_clips(folder: Path) -> None:
    """Every clip of the sample in every length, with its depth; what is there is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, spec in CLIPS.items():
        if (folder / f"{name}_{LENGTHS[0]}.mp4").exists():
            continue
        width, height = SIZE if spec.width > spec.height else SIZE[::-1]
        truth = render(name, frames=max(LENGTHS), width=width, height=height)
        for frames in reversed(LENGTHS):
            depths, K = truth.depth_m[:frames].astype(np.float16), np.repeat(truth.K[None], frames, axis=0)
            np.savez(folder / f"{name}_{frames}.npz", depths=depths, intrinsics=K, extrinsics=truth.T_camera_world[:frames])
            with H264Writer(folder / f"{name}_{frames}.mp4", (width, height), FPS, crf=14) as video:
                for rgb in truth.rgb[:frames]:
                    video.write(rgb)


def mixed_run(folder: Path, clips: Path, seed: int) -> dict[str, object]:
    """A table and settings drawn by ``seed``: 2 to 7 videos, short and long, with depth or from motion, in one to three batches."""
    draw = random.Random(seed)
    from_motion = draw.choice([0.0, 0.15, 0.4])
    rows, count = [], draw.randint(2, 7)
    for number in range(count):
        name = draw.choice(list(CLIPS))
        motion = draw.random() < from_motion
        clip = f"{name}_{LENGTHS[-1] if motion else draw.choice(LENGTHS)}"
        rows.append([f"v{number}", clips / f"{clip}.mp4", "" if motion else clips / f"{clip}.npz"])
    with (folder / "videos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["video", "path", "depth"], *rows])
    hands = draw.choice(["mediapipe", "mediapipe", "none"])
    settings = {"width": 320, "height": 240}
    config = {"videos": "videos.csv", "output": "output", "batch_size": draw.choice([2, 4, 9]), "min_tier": "D", "ingest": settings}
    config |= {"hands": {"backend": hands}, "tracks": {"stride": draw.choice([1, 3]), "points": 800}, "required": []}
    config |= {"envs_dir": str(ROOT / "thirdparty" / "envs"), "max_quarantined": count}
    (folder / "config.yaml").write_text(json.dumps(config))
    return {"videos": count, "motion": sum(not row[2] for row in rows), "hands": hands, "batch": config["batch_size"]}


def follow(folder: Path) -> tuple[float, list[tuple[float, float]]]:
    """Runs what stands in a folder; seconds it took, and (elapsed, time left as told) while it ran."""
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2", "-q"]
    told: list[tuple[float, float]] = []
    with (folder / "log.txt").open("w") as log:
        run = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        tracker = None
        while run.poll() is None:
            time.sleep(0.5)
            if tracker is None and Layout(folder / "output").latest_run.exists():
                tracker = ProgressTracker(latest_run(folder / "output"))
            if tracker is not None:
                tracker.read()
                now = tracker.progress()
                if now.eta_seconds:
                    told.append((now.elapsed_seconds, now.eta_seconds))
    assert tracker is not None, (folder / "log.txt").read_text()[-2000:]
    return time.time() - tracker.began, told


def measure_eta(folder: Path, runs: int) -> None:
    """Prints a row per run: by how much of the whole run the told end was off, from a quarter of it on."""
    render_clips(folder / "clips")
    print(
        "| run | videos | from motion | hands | batch of | seconds | median error | worst error | told within 30 % |\n"
        + "|"
        + "---|" * 9
    )
    every: list[float] = []
    for seed in range(runs):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            mix = mixed_run(Path(place), folder / "clips", seed)
            took, told = follow(Path(place))
        errors = [abs(elapsed + left - took) / took for elapsed, left in told if elapsed >= took / 4]
        every += errors
        within = np.mean(np.array(errors) <= 0.3)
        cells = [seed, *mix.values(), f"{took:.0f}", f"{np.median(errors):.0%}", f"{max(errors):.0%}", f"{within:.0%}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    within, high = np.mean(np.array(every) <= 0.3), np.quantile(every, 0.9)
    print(f"all: median {np.median(every):.0%}, 90th percentile {high:.0%}, {within:.0%} within 30 %")


def measure_cost(folder: Path) -> None:
    """Lifts the sample without previews; prints the CPU seconds of all of it, of previews and of the report."""
    (folder / "config.yaml").write_text(json.dumps({"preview": "none", "envs_dir": str(ROOT / "thirdparty" / "envs")}))
    subprocess.run([sys.executable, "-m", "stages.sample", str(folder / "output" / "sample")], check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2", "-q"]
    subprocess.run(command, cwd=folder, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    line_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    output = folder / "output"
    videos = sorted(path.stem for path in Layout(output).dataset.glob("*.hdf5"))
    costs = [cpu_seconds(partial(write_preview, output, video)) for video in videos]
    report_s = cpu_seconds(partial(write_report, output))
    print(
        f"{len(videos)} videos: {line_s:.0f} CPU s; previews {sum(costs):.1f}, one at most {max(costs):.1f}, report {report_s:.1f}"
    )
    print(
        f"preview: worst and report {(max(costs) + report_s) / line_s:.1%}; all and report {(sum(costs) + report_s) / line_s:.1%}"
    )


MEASURE = """play(false); const least = Array(D.frames).fill(Infinity), all = [];
for (let pass = 0; pass < 9; pass++) for (let k = 0; k < D.frames; k++) {
  const began = performance.now();
  show(k); orbit.update(); renderer.render({ scene: root, camera });
  const took = performance.now() - began;
  all.push(took); least[k] = Math.min(least[k], took);
}
const at = (values, share) => values.sort((a, b) => a - b)[Math.floor(share * (values.length - 1))];
return { points: D.points, median: at(least, 0.5), p90: at(least, 0.9), most: at(least, 1), "p90 of all": at(all, 0.9) };"""
"""Milliseconds per frame: of nine passes the least, since a busy machine takes the processor away in the middle of a frame."""


def measure_page(output: Path, video: str) -> None:
    """Prints milliseconds of scripting per frame: as it is, and with every point moving, so that all have trails."""
    from tests.chromium import Chromium

    page = write_scene_page(output, video)
    with tempfile.TemporaryDirectory() as profile, Chromium(Path(profile)) as browser:
        for what, before in (("as it is", ""), ("every point moves", "A.heat.fill(200);")):
            browser.show(page)
            browser.wait("document.documentElement.dataset.ready && videolift.scripting.length > 3")
            found = browser.run(before + MEASURE)
            print(
                f"{what}: "
                + ", ".join(f"{name} {value:.2f}" if name != "points" else f"{value} points" for name, value in found.items())
            )


def main() -> None:
    """Command line."""
    command = parser(__doc__)
    kinds = command.add_subparsers(dest="kind", required=True)
    eta = kinds.add_parser("eta")
    eta.add_argument("folder", type=Path)
    eta.add_argument("--runs", type=int, default=10)
    kinds.add_parser("cost").add_argument("folder", type=Path)
    page = kinds.add_parser("page")
    page.add_argument("output", type=Path)
    page.add_argument("video")
    options = command.parse_args()
    if options.kind == "eta":
        measure_eta(options.folder.resolve(), options.runs)
    elif options.kind == "cost":
        measure_cost(options.folder.resolve())
    else:
        measure_page(options.output.resolve(), options.video)


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    main()
