"""Tracks by optical flow, depth and the camera, on a CPU.

Reads clip and depth once, in order; holds the frames and the flow within one window, never the video. Good to about 1 mm per point
on measured depth (docs/backends.md). Depth that is not measured makes points invalid, not wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from stages.backend import Backend, Inputs, Progress, Quality
from stages.tracks import TracksSettings
from stages.tracks.chain import DenseFlow, FlowPair, FlowSettings
from stages.tracks.moving import follow_moving
from stages.tracks.point_paths import WindowFrames, follow_flow
from stages.tracks.queries import WINDOW_SETTINGS, Queries, window_queries
from stages.tracks.standing import stand_still
from stages.tracks.windowed import FrameReader, LiftingScene, tracked_starts, write_windows
from videolift.artifacts import ArtifactWriter, TracksWriter
from videolift.artifacts.tracks import Window
from videolift.geometry import Float
from videolift.pool import Device


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
    grey: dict[int, NDArray[np.uint8]] = {}
    depth: dict[int, Float] = {}
    pairs: dict[int, FlowPair] = {}
    for start in starts:
        steps = range(start, start + length)
        for k in steps:
            if k not in grey:
                grey[k] = flow.grey(np.asarray(frames[k]))
                if scene.depth is not None:
                    depth[k] = np.asarray(scene.depth[k])
            if k > start and k not in pairs:
                pairs[k] = flow.between(grey[k - 1], grey[k])
        window = WindowFrames(
            flow,
            grey=[grey[k] for k in steps],
            pairs=[pairs[k] for k in steps[1:]],
            depth=[depth[k] for k in steps if k in depth],
            K=scene.K,
            T_camera_world=scene.T_camera_world[start : start + length],
        )
        yield _track(window, start, queries(start))
        for k in range(start, start + starts.step):
            grey.pop(k, None)
            depth.pop(k, None)
            pairs.pop(k, None)
        pairs.pop(start + starts.step, None)  # from before the next window


def _track(frames: WindowFrames, start: int, queries: Queries) -> Window:
    """Points that stand by the camera, points that move with their neighbours, the rest by flow alone."""
    paths = follow_flow(frames, queries.uv_px)
    missed = frames.flow.turn_back([pair.backward for pair in frames.pairs], paths.uv_px, paths.visible)
    # A point without depth at its first step cannot be placed in space; flow alone carries it.
    measured = np.flatnonzero(paths.valid[0])
    if len(measured) and np.isfinite(frames.T_camera_world).all():
        xyz_cam0 = paths.xyz_cam0[0, measured]
        standing, stands = stand_still(frames, xyz_cam0, paths.uv_px[:, measured], paths.visible[:, measured])
        paths.replace(measured, standing)
        if not stands.all():
            paths.replace(measured[~stands], follow_moving(frames, xyz_cam0[~stands], queries.uv_px[measured[~stands]]))
    return Window(
        start,
        len(frames),
        xyz_cam0=paths.xyz_cam0.astype(np.float32),
        uv_px=paths.uv_px,
        visible=paths.visible,
        valid3d=paths.valid,
        label=queries.label,
        forward_backward_px=float(np.median(missed)) if len(missed) else math.nan,
    )


class FlowTracks(Backend):
    """The ``flow`` backend."""

    name: ClassVar[str] = "flow"
    settings_model: ClassVar[type[FlowSettings]] = FlowSettings
    presets: ClassVar[tuple[str, ...]] = ("cpu", "laptop", "permissive")
    version: ClassVar[int] = 4
    env: ClassVar[str | None] = None
    device: ClassVar[Literal["cpu", "cuda"]] = "cpu"
    deterministic: ClassVar[bool] = True
    shrinks: ClassVar[tuple[float, ...]] = (1.0,)
    writer: ClassVar[type[ArtifactWriter]] = TracksWriter

    def __init__(self, settings: TracksSettings, *, root: Path) -> None:  # noqa: ARG002  part of the contract
        self._settings = settings

    def identity(self) -> dict[str, Any]:
        """The settings that change a result."""
        return dict(self._settings.model_dump(mode="json", include={*WINDOW_SETTINGS, "flow"}))

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
            masks = stack.enter_context(inputs.open_masks())

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
