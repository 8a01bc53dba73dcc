"""Tracks by chained optical flow, on a CPU: every window's points advance together, pair of frames by pair of frames.

Reads clip and depth once, in order; holds the windows that are open and the flow within one, never the video. Good to about 1 mm
per point on measured depth (docs/backends.md). Depth that is not measured makes points invalid, not wrong.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from stages.backend import Backend, Inputs, Progress, Quality
from stages.tracks import TracksSettings
from stages.tracks.chain import DenseFlow, FlowSettings
from stages.tracks.queries import WINDOW_SETTINGS, Queries, window_queries
from stages.tracks.windowed import FrameReader, LiftingScene, tracked_starts, write_windows
from videolift.artifacts import ArtifactWriter, TracksWriter
from videolift.artifacts.tracks import Window
from videolift.geometry import Float, invert_pose, transform
from videolift.inputs.masks import open_masks
from videolift.pool import Device


class _Open:
    """A window on its way: `step` adds a frame to it."""

    def __init__(self, start: int, length: int, queries: Queries) -> None:
        points = len(queries)
        self.start, self.label, self.frames = start, queries.label, 0
        self._xyz = np.full((length, points, 3), np.nan, np.float32)
        self._uv = np.full((length, points, 2), np.nan, np.float32)
        self._visible = np.zeros((length, points), bool)
        self._valid = np.zeros((length, points), bool)
        self.uv_px: NDArray[np.float32] = queries.uv_px

    def step(
        self,
        T_camera_world: Float,
        uv_px: NDArray[np.float32],
        trusted: NDArray[np.bool_],
        xyz_camera: Float,
        valid: NDArray[np.bool_],
    ) -> None:
        i = self.frames
        T_cam0_camk = T_camera_world[self.start] @ invert_pose(T_camera_world[self.start + i])
        self._xyz[i] = transform(T_cam0_camk, xyz_camera)
        self._valid[i] = valid & bool(np.isfinite(T_cam0_camk).all())
        self._visible[i] = trusted & self._visible[i - 1] if i else trusted
        self._uv[i], self.uv_px, self.frames = uv_px, uv_px, i + 1

    def window(self, flow: DenseFlow, backward: Sequence[NDArray[np.float32]]) -> Window:
        missed = flow.turn_back(backward, self._uv, self._visible)
        median_px = float(np.median(missed)) if len(missed) else math.nan
        arrays = self._xyz, self._uv, self._visible, self._valid
        return Window(self.start, self.frames, *arrays, self.label, forward_backward_px=median_px)


def track_windows(
    frames: FrameReader, starts: range, length: int, flow: DenseFlow, scene: LiftingScene, queries: Callable[[int], Queries]
) -> Iterator[Window]:
    """Windows of ``length`` frames at ``starts``, in order.

    Args:
        frames: RGB u8 (H, W, 3) by index.
        starts: first frames of the windows.
        length: frames per window.
        flow: computes and follows flow.
        scene: what points are lifted with.
        queries: a window's query points by its first frame.
    """
    waiting, opened = list(reversed(starts)), list[_Open]()
    previous: NDArray[np.uint8] | None = None
    backward: deque[NDArray[np.float32]] = deque(maxlen=length - 1)
    k = starts[0] if starts else 0
    while waiting or opened:
        grey = flow.grey(np.asarray(frames[k]))
        uv_px, trusted = np.zeros((0, 2), np.float32), np.zeros(0, bool)
        if opened and previous is not None:
            pair = flow.between(previous, grey)
            backward.append(pair.backward)
            uv_px, trusted = flow.follow(pair, np.concatenate([window.uv_px for window in opened]))
        if waiting and waiting[-1] == k:
            opened.append(_Open(waiting.pop(), length, queries(k)))
            uv_px = np.concatenate([uv_px, opened[-1].uv_px])
            trusted = np.concatenate([trusted, np.ones(len(opened[-1].label), bool)])
        _step(opened, scene, k, uv_px, trusted)
        if opened[0].frames == length:
            yield opened.pop(0).window(flow, backward)
        previous, k = (grey, k + 1) if opened or not waiting else (None, waiting[-1])


def _step(windows: list[_Open], scene: LiftingScene, k: int, uv_px: NDArray[np.float32], trusted: NDArray[np.bool_]) -> None:
    """Gives every window its part of the points of all of them, (N, 2) back to back, in frame ``k``."""
    arrays = (uv_px, trusted, *scene.lift(uv_px, k))
    cuts = np.cumsum([len(window.label) for window in windows])[:-1]
    for window, *parts in zip(windows, *(np.split(array, cuts) for array in arrays), strict=True):
        window.step(scene.T_camera_world, *parts)


class FlowTracks(Backend):
    """The ``flow`` backend."""

    name: ClassVar[str] = "flow"
    settings_model: ClassVar[type[FlowSettings]] = FlowSettings
    presets: ClassVar[tuple[str, ...]] = ("cpu",)
    version: ClassVar[int] = 2
    env: ClassVar[str | None] = None
    device: ClassVar[Literal["cpu", "cuda"]] = "cpu"
    deterministic: ClassVar[bool] = True
    shrinks: ClassVar[tuple[float, ...]] = (1.0,)
    writer: ClassVar[type[ArtifactWriter]] = TracksWriter

    def __init__(self, settings: TracksSettings, *, root: Path) -> None:  # noqa: ARG002  part of the contract
        self._settings = settings

    def identity(self) -> dict[str, Any]:
        """The settings that change a result."""
        return self._settings.model_dump(mode="json", include={*WINDOW_SETTINGS, "flow"})

    def load(self, device: Device) -> None:
        """Nothing to load."""

    def close(self) -> None:
        """Nothing to release."""

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Tracks every window of the clip.

        Raises:
            BadInput: fewer frames than a window; ``query: mask`` without a mask; a mask that does not fit.
            CorruptFile: clip and depth differ in length.
        """
        assert inputs.clip is not None
        assert isinstance(out, TracksWriter)
        clip, settings = inputs.clip, self._settings
        starts = tracked_starts(len(clip), settings.window_length, settings.stride)
        size_px = (clip.width, clip.height)
        named = {"window_length": settings.window_length, "stride": settings.stride, "query": settings.query}
        out.describe(backend=self.name, seed=settings.seed or 0, **named)
        flow, scene = DenseFlow(settings.of(FlowSettings), size_px), LiftingScene.of(inputs)
        with ExitStack() as stack:
            masks = stack.enter_context(open_masks(inputs.video.mask, clip)) if inputs.video.mask else None

            def queries(start: int) -> Queries:
                mask = None if masks is None else masks[start]
                return window_queries(settings, video=inputs.video.id, window_start=start, size_px=size_px, mask=mask)

            counts = write_windows(
                out,
                starts,
                segment=settings.segment_s * clip.fps / settings.stride,
                track=lambda left: track_windows(clip, left, settings.window_length, flow, scene, queries),
                count=lambda window: (window.visible.size, window.visible.sum(), window.valid3d.sum()),
                progress=progress,
            )
        steps, visible, valid = (int(count) for count in counts.sum(axis=0))
        checks: tuple[str, ...] = ()
        if inputs.depth is None:
            checks = ("tracks are in the image only: there is no depth to lift them with",)
        elif not steps:
            checks = ("no window has a query point",)
        shares = {"visible_share": visible / max(steps, 1), "valid3d_share": valid / max(steps, 1)}
        return Quality(len(clip), checks, {"windows": len(starts), **shares})


BACKEND = FlowTracks
