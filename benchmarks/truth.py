"""The whole line judged by the rendered truth: every figure the cpu preset is held to, from what a run over the sample left.

    python -m benchmarks.truth output          # after `snakemake --cores 2 --config videos=sample`

Reads the artifacts of a finished run, renders the clips again and prints one line per figure; exit code 1 where one is beyond its
bound. Between truth and figure lies all that a user's video meets: H.264, ingest, storage, and depth as it was estimated.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.timing import parser
from benchmarks.tracks import point_errors
from stages.models.trial import Figure, hand_figures
from stages.sample import CLIPS, Truth, render
from tests.stages.depth.truth import moving_now
from videolift.artifacts import Depth, Hands, Tracks
from videolift.evaluation import depth_errors, focal_error, marked_valid, pose_errors

EVERY = 5
"""Of the windows; of the frames in which moving pixels are looked for, every third."""


def sfm_figures(depth: Depth, truth: Truth) -> Iterator[Figure]:
    """Structure from motion, aligned: its unit of length is its own."""
    errors = depth_errors(depth[:], truth.depth_m, align=True)
    moving = np.stack([moving_now(truth, k) for k in range(0, len(truth.rgb), 3)])
    yield Figure("camera path, ATE", 1e3 * pose_errors(depth.T_camera_world, truth.T_camera_world).ate, 2.0, "mm")
    yield Figure("focal length", abs(focal_error(depth.K, truth.K)), 0.02, "")
    yield Figure("valid depth, AbsRel", errors.abs_rel, 0.05, "")
    yield Figure("moving pixels marked valid", marked_valid(depth[:][::3, ::4, ::4], moving), 0.02, "")


def rgbd_figures(depth: Depth, tracks: Tracks, truth: Truth) -> Iterator[Figure]:
    """Tracks on given depth: metres as they are, nothing aligned."""
    errors = point_errors(truth, [tracks[number] for number in range(0, len(tracks), EVERY)])
    yield Figure("given depth, AbsRel", depth_errors(depth[:], truth.depth_m, align=False).abs_rel, 0.01, "")
    yield Figure("points off by more than 1 cm", 1 - errors["within 1 cm"], 0.10, "")
    yield Figure("moving points off by more than 1 cm", 1 - errors["moving, within 1 cm"], 0.20, "")


def figures_of(output: Path, clip: str) -> Iterator[Figure]:
    """Every figure of one clip of the sample."""
    truth, depth = render(clip), Depth(output / "depth" / f"{clip}.h5")
    if CLIPS[clip].rgbd:
        yield from rgbd_figures(depth, Tracks(output / "tracks_3d" / f"{clip}.h5"), truth)
    else:
        yield from sfm_figures(depth, truth)
    yield from hand_figures(Hands(output / "hand_poses" / f"{clip}.h5"), truth, metric=depth.scale == "metric")


def main() -> None:
    """See the module."""
    command = parser(__doc__)
    command.add_argument("output", type=Path, help="of a run over the sample")
    output = command.parse_args().output
    passed = True
    for clip in CLIPS:
        print(clip)
        for figure in figures_of(output, clip):
            print("  " + figure.line())
            passed &= figure.passes
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
