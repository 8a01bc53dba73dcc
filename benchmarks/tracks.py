"""What flow tracks cost and how far off they are, against flow computed anew for every window.

    python -m benchmarks.tracks                  # about a minute of CPU
    python -m benchmarks.tracks --clip handheld_rgbd
    python -m benchmarks.tracks --unseen 11 12 13    # whole paths on renderings that nothing was tuned on

Three ways over the same windows of a rendered clip, with its exact depth and poses, on one thread: `flow` as the backend does it,
one flow per pair of frames for all windows; `per window, direct`, DIS medium from a window's first image to each of the others,
forward and backward; `per window, chained`, DIS medium between neighbours, computed for every window again. CPU seconds per
window are medians of 7 interleaved repeats; ratios come with their 90 % bootstrap interval over the repeats. Errors are taken at
points that are truly visible, in every frame of a window after the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import cpu_ms, parser, ratio
from benchmarks.unseen import CAMERAS, render_unseen
from stages.sample import CLIPS, Truth, render
from stages.tracks import TracksSettings
from stages.tracks.chain import DenseFlow, FlowPair, FlowSettings
from stages.tracks.flow import track_windows
from stages.tracks.queries import Queries, window_queries
from stages.tracks.windowed import LiftingScene, tracked_starts
from videolift.artifacts.tracks import Window
from videolift.geometry import T_cam0_camk, transform

LENGTH, SUBSET = 10, 4
RIGHT_M = 0.01
FIGURES = ("anywhere", "where_seen", "where_flagged", "flag_right")
OURS, DIRECT, CHAINED = "flow", "per window, direct", "per window, chained"


class Bench:
    """One clip, and the three ways to track its windows."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.size_px = (truth.rgb.shape[2], truth.rgb.shape[1])
        self.settings = TracksSettings(backend="flow", seed=0, window_length=LENGTH)
        self.scene = LiftingScene(truth.depth_m.astype(np.float16), truth.K, truth.T_camera_world)
        self.starts = tracked_starts(len(truth.rgb), LENGTH, 1)
        self.subset = self.starts[2 :: max(1, len(self.starts) // SUBSET)]
        # OpenCV's types do not know that it allocates the result where it is given None.
        self._medium: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def queries(self, start: int) -> Queries:
        mask = self.truth.instance[start]
        return window_queries(self.settings, video="bench", window_start=start, size_px=self.size_px, mask=mask)

    def ours(self) -> list[Window]:
        flow = DenseFlow(FlowSettings(), self.size_px)
        return list(track_windows(self.truth.rgb, self.starts, LENGTH, flow, self.scene, self.queries))

    def per_window(self, *, chained: bool) -> list[Window]:
        flow = DenseFlow(FlowSettings(), self.size_px)
        return [self._window(flow, start, chained) for start in self.subset]

    def _window(self, flow: DenseFlow, start: int, chained: bool) -> Window:
        grey = [flow.grey(self.truth.rgb[k]) for k in range(start, start + LENGTH)]
        queries = self.queries(start)
        uv, visible = [queries.uv_px], [np.ones(len(queries), bool)]
        for k in range(1, LENGTH):
            i = k - 1 if chained else 0
            there, back = self._medium.calc(grey[i], grey[k], None), self._medium.calc(grey[k], grey[i], None)
            found, trusted = flow.follow(FlowPair(there, back), uv[i])
            uv.append(found)
            visible.append(trusted & visible[i])
        T = T_cam0_camk(self.truth.T_camera_world[start : start + LENGTH])
        lifted = [self.scene.lift(points, start + k) for k, points in enumerate(uv)]
        xyz = np.stack([transform(T[k], points) for k, (points, _) in enumerate(lifted)]).astype(np.float32)
        valid = np.stack([valid for _, valid in lifted])
        return Window(start, LENGTH, xyz, np.stack(uv), visible=np.stack(visible), valid3d=valid, label=queries.label)


def point_errors(truth: Truth, windows: list[Window]) -> dict[str, float]:
    """Figures over points that are truly visible, in every frame of ``windows`` after the first; no depth is infinitely off."""
    metres, pixels, moving, agree = [], [], [], []
    for window in windows:
        length, ids = len(window.uv_px), at_pixels(truth.instance[window.start], window.uv_px[0])
        xyz, uv, seen = truth.tracks(window.start, window.uv_px[0].astype(np.float64), length)
        later = seen & (np.arange(length) > 0)[:, None]
        error = np.where(window.valid3d, np.linalg.norm(window.xyz_cam0 - xyz, axis=-1), np.inf)
        metres.append(error[later])
        pixels.append(np.linalg.norm(window.uv_px - uv, axis=-1)[later])
        moving.append((np.isin(ids, truth.moving_ids)[None] & later)[later])
        agree.append((window.visible == seen)[1:].ravel())
    cm, px, moves = np.concatenate(metres) * 100, np.concatenate(pixels), np.concatenate(moving)
    return {
        "within 1 cm": float((cm < 1).mean()),
        "moving, within 1 cm": float((cm[moves] < 1).mean()),
        "median cm": float(np.median(cm)),
        "mean px": float(px.mean()),
        "median px": float(np.median(px)),
        "visibility right": float(np.concatenate(agree).mean()),
    }


@dataclass(frozen=True)
class PathShares:
    """Shares of points whose whole path in a window is right, within 1 cm of the truth.

    Attributes:
        points: how many.
        anywhere: right at every step, hidden or not.
        where_seen: at every step at which the point is truly visible.
        where_flagged: at every step flagged visible.
        flag_right: share of steps whose flag is the truth.
    """

    points: int
    anywhere: float
    where_seen: float
    where_flagged: float
    flag_right: float


def path_shares(truth: Truth, windows: list[Window]) -> tuple[PathShares, PathShares]:
    """Of points on what stands still and of points on what moves; points without true depth do not count."""
    paths = []
    for window in windows:
        xyz, _, seen = truth.tracks(window.start, window.uv_px[0].astype(np.float64), len(window.uv_px))
        off_m = np.where(window.valid3d, np.linalg.norm(window.xyz_cam0 - xyz, axis=-1), np.inf)
        moves = np.isin(at_pixels(truth.instance[window.start], window.uv_px[0]), truth.moving_ids)
        paths.append((off_m, seen, window.visible, np.broadcast_to(moves, seen.shape)))
    off_m, seen, flagged, moves = (np.concatenate(parts, axis=1) for parts in zip(*paths, strict=True))
    groups = (seen[0] & ~moves[0], seen[0] & moves[0])
    standing, moving = (
        PathShares(
            points=int(group.sum()),
            anywhere=float((off_m[:, group].max(0) < RIGHT_M).mean()),
            where_seen=float((np.where(seen, off_m, 0.0)[:, group].max(0) < RIGHT_M).mean()),
            where_flagged=float((np.where(flagged, off_m, 0.0)[:, group].max(0) < RIGHT_M).mean()),
            flag_right=float((seen == flagged)[:, group].mean()),
        )
        for group in groups
    )
    return standing, moving


def unseen(seeds: list[int], speed: float) -> None:
    """The table of `path_shares` on renderings that nothing was tuned on, every third window."""
    print(
        "clip                          standing: any / seen / flagged / flag    moving: any / seen / flagged / flag   ms per window"
    )
    clips: list[tuple[PathShares, PathShares]] = []
    for seed in seeds:
        for camera in CAMERAS:
            truth = render_unseen(camera, seed, speed=speed)
            bench = Bench(truth)
            began = time.process_time()
            windows = bench.ours()
            ms_per_window = 1000 * (time.process_time() - began) / len(windows)
            clips.append(path_shares(truth, windows[::3]))
            columns = (" / ".join(f"{getattr(shares, figure):.3f}" for figure in FIGURES) for shares in clips[-1])
            print(f"{truth.name:28} {'   '.join(columns)} {ms_per_window:9.0f}", flush=True)
    for name, pick in (("mean", np.mean), ("worst clip", np.min)):
        of_clips = [[getattr(clip[group], figure) for clip in clips] for group in (0, 1) for figure in FIGURES]
        print(f"{name:28} " + " / ".join(f"{pick(values):.3f}" for values in of_clips))


def at_pixels(image: NDArray[np.uint8], uv_px: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Values of an image (H, W) at the pixels nearest to points (N, 2)."""
    u, v = np.rint(uv_px).astype(int).T
    return np.asarray(image[v.clip(0, image.shape[0] - 1), u.clip(0, image.shape[1] - 1)])


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--clip", choices=list(CLIPS), default="orbit_rgbd")
    command.add_argument("--unseen", type=int, nargs="+", metavar="SEED", help="the table of whole paths on other renderings")
    command.add_argument("--speed", type=float, default=1.5, help="of the motion in those, over the sample's")
    arguments = command.parse_args()
    clip = arguments.clip
    cv2.setNumThreads(1)
    if arguments.unseen:
        unseen(arguments.unseen, arguments.speed)
        return
    bench = Bench(render(clip))
    ways: dict[str, Callable[[], list[Window]]] = {
        OURS: bench.ours,
        DIRECT: lambda: bench.per_window(chained=False),
        CHAINED: lambda: bench.per_window(chained=True),
    }
    found = {name: way() for name, way in ways.items()}
    per_window = {name: taken / len(found[name]) for name, taken in cpu_ms(ways, 1).items()}
    points = len(bench.queries(0))
    print(
        f"{clip}: {len(bench.truth.rgb)} frames of {bench.size_px}, {len(bench.starts)} windows of {LENGTH}, {points} points each"
    )
    for name in ways:
        errors = point_errors(bench.truth, [window for window in found[name] if window.start in bench.subset])
        figures = ", ".join(f"{key} {value:.3f}" for key, value in errors.items())
        print(f"{name:20} {np.median(per_window[name]):7.1f} CPU ms per window; {figures}")
    for name in (DIRECT, CHAINED):
        low, value, high = ratio(per_window[name], per_window[OURS])
        print(f"{OURS} costs {value:.1f}x less than {name} (90 % interval {low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
