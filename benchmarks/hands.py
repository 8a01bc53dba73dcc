"""How far off MediaPipe's hands are on rendered clips, with metric depth and without.

    python -m benchmarks.hands                   # about two minutes of CPU; builds MediaPipe's environment on first use

Angles are between estimated and true wrist rotation, distances between wrists, over the frames of a clip in which the hand is
valid. MediaPipe never saw rendered hands; for real ones see benchmarks/hands_real.py.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.timing import parser
from stages.backend import Inputs
from stages.hands.mediapipe import BACKEND
from stages.models.environments import build
from stages.registry import ROOT
from stages.sample import CLIPS, Truth, render
from stages.sample.artifacts import write_truth_artifacts
from stages.settings import parse_config, settings_for
from videolift.artifacts import SIDES, Clip, Depth, Hands
from videolift.geometry import rotation_angle
from videolift.inputs.video import Video
from videolift.pool import cpu_device


def figures(name: str, T_camera_wrist: np.ndarray, valid: np.ndarray, truth: Truth) -> str:
    """One line of figures for wrists (T, 4, 4) of the true side."""
    T, true = T_camera_wrist[valid], truth.T_camera_wrist[valid]
    turned = np.degrees(rotation_angle(T[:, :3, :3], true[:, :3, :3]))
    moved = 100 * np.linalg.norm(T[:, :3, 3] - true[:, :3, 3], axis=1)
    far = T[:, 2, 3] / true[:, 2, 3]
    angles, distances = np.percentile(turned, [50, 90]), np.percentile(moved, [50, 90])
    return (
        f"  {name:34} {valid.mean():4.0%} valid, turned {angles[0]:4.1f} (p90 {angles[1]:4.1f}) degrees,"
        f" off {distances[0]:4.1f} (p90 {distances[1]:4.1f}) cm, distance x {np.median(far):.2f}"
    )


def with_mediapipe(backend: BACKEND, truth: Truth, folder: Path) -> None:
    write_truth_artifacts(folder, "clip", truth, grid_px=64, stride=10)
    side = SIDES.index(truth.side)
    for use_depth, name in ((True, "MediaPipe, metric depth"), (False, "MediaPipe, no depth")):
        with Clip(folder / "frames/clip.h5") as clip, Depth(folder / "depth/clip.h5") as depth:
            writer, began = backend.writer(folder / f"{use_depth}.h5"), time.monotonic()
            given = Inputs(Video("clip", "clip.mp4"), clip=clip, depth=depth if use_depth else None)
            backend.process(given, writer, shrink=1.0, progress=lambda done, total: None)
            writer.publish()
        with Hands(folder / f"{use_depth}.h5") as hands:
            print(figures(name, hands.T_camera_wrist[:, side], hands.valid[:, side], truth), end="")
            print(f", other side {hands.valid[:, 1 - side].mean():.0%}, {(time.monotonic() - began) / len(hands):.2f} s per frame")


def main() -> None:
    command = parser(__doc__)
    command.add_argument("clips", nargs="*", default=[name for name, spec in CLIPS.items() if spec.rgbd])
    build("mediapipe", envs_dir=ROOT / "thirdparty" / "envs")
    backend = BACKEND(settings_for(parse_config({}), Video("clip", ""))["hands"], root=ROOT)
    backend.load(cpu_device())
    try:
        for name in command.parse_args().clips:
            truth = render(name)
            print(f"{name}, {truth.side} hand, {len(truth.rgb)} frames")
            with tempfile.TemporaryDirectory() as folder:
                with_mediapipe(backend, truth, Path(folder))
    finally:
        backend.close()


if __name__ == "__main__":
    main()
