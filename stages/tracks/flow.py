"""Tracks by chained optical flow, on a CPU: every window's points advance together, pair of frames by pair of frames.

Reads clip and depth once, in order; holds the windows that are open and the flow within one, never the video. Good to about 1 mm
per point on measured depth (docs/backends.md). Depth that is not measured makes points invalid, not wrong.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.backend import Inputs, Progress, Quality
from stages.tracks.chain import DenseFlow, lift
from stages.tracks.queries import WINDOW_SETTINGS, Queries, make
from videolift.artifacts import ArtifactWriter, TracksWriter
from videolift.artifacts.tracks import Window
from videolift.config import TracksSettings
from videolift.errors import BadInput, CorruptFile
from videolift.geometry import invert_pose, transform
from videolift.inputs.masks import open_masks
from videolift.pool import Device

_PROGRESS_EVERY = 8


class Frames(Protocol):
    """What is needed of a clip, a depth or masks: one frame at a time."""

    def __getitem__(self, frame: int) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Scene:
    """What tracks are lifted with.

    Attributes:
        depth: z per frame (H, W), 0 invalid; None where there is no depth, and all of it is invalid.
        K: (3, 3).
        T_camera_world: (T, 4, 4), NaN where not known.
    """

    depth: Frames | None
    K: NDArray[np.floating]
    T_camera_world: NDArray[np.floating]

    def lift(self, uv_px: NDArray[np.floating], k: int) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """Points (N, 3) of frame ``k`` in that frame's camera, and where they are valid."""
        if self.depth is None:
            return np.full((len(uv_px), 3), np.nan), np.zeros(len(uv_px), bool)
        return lift(uv_px, np.asarray(self.depth[k]), self.K)


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
        T_camera_world: NDArray[np.floating],
        uv_px: NDArray[np.float32],
        trusted: NDArray[np.bool_],
        xyz_camera: NDArray[np.floating],
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
    frames: Frames, starts: range, length: int, flow: DenseFlow, scene: Scene, queries: Callable[[int], Queries]
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


def _step(windows: list[_Open], scene: Scene, k: int, uv_px: NDArray[np.float32], trusted: NDArray[np.bool_]) -> None:
    """Gives every window its part of the points of all of them, (N, 2) back to back, in frame ``k``."""
    arrays = (uv_px, trusted, *scene.lift(uv_px, k))
    cuts = np.cumsum([len(window.label) for window in windows])[:-1]
    for window, *parts in zip(windows, *(np.split(array, cuts) for array in arrays), strict=True):
        window.step(scene.T_camera_world, *parts)


class FlowTracks:
    """The ``flow`` backend."""

    name: ClassVar[str] = "flow"
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
        starts = window_starts(len(clip), settings.window_length, settings.stride)
        size_px = (clip.width, clip.height)
        named = {"window_length": settings.window_length, "stride": settings.stride, "query": settings.query}
        out.describe(backend=self.name, seed=settings.seed or 0, **named)
        segment = max(1, round(settings.segment_s * clip.fps / settings.stride))
        share = _Shares(out.load_part("shares") if out.committed else None)
        with ExitStack() as stack:
            masks = stack.enter_context(open_masks(inputs.video.mask, clip)) if inputs.video.mask else None

            def queries(start: int) -> Queries:
                mask = None if masks is None else masks[start]
                return make(settings, video=inputs.video.id, window_start=start, size_px=size_px, mask=mask)

            flow = DenseFlow(settings.flow, size_px)
            todo = starts[out.committed :]
            found = track_windows(clip, todo, settings.window_length, flow, scene_of(inputs), queries)
            for done, window in enumerate(found, start=out.committed + 1):
                out.append_window(window)
                share.add(window)
                if done % segment == 0 and done < len(starts):
                    out.save_part("shares", counts=share.counts)
                    out.commit()
                if done % _PROGRESS_EVERY == 0 or done == len(starts):
                    progress(done, len(starts))
        return Quality(len(clip), share.checks(inputs), share.figures(len(starts)))


class _Shares:
    """Counts over all windows, for the receipt: point-frames, those visible, those with depth."""

    def __init__(self, saved: dict[str, NDArray[Any]] | None) -> None:
        self.counts = np.zeros(3, np.int64) if saved is None else saved["counts"]

    def add(self, window: Window) -> None:
        self.counts = self.counts + [window.visible.size, window.visible.sum(), window.valid3d.sum()]

    def figures(self, windows: int) -> dict[str, float]:
        points, visible, valid = (float(count) for count in self.counts)
        return {"windows": windows, "visible_share": visible / max(points, 1), "valid3d_share": valid / max(points, 1)}

    def checks(self, inputs: Inputs) -> tuple[str, ...]:
        if inputs.depth is None:
            return ("tracks are in the image only: there is no depth to lift them with",)
        if not self.counts[0]:
            return ("no window has a query point",)
        return ()


def window_starts(frames: int, length: int, stride: int) -> range:
    """First frames of the W = (frames - length) // stride + 1 windows; a tail shorter than ``stride`` is no window.

    Raises:
        BadInput: fewer frames than one window.
    """
    if frames < length:
        text = f"the clip has {frames} frames, a window needs {length}"
        raise BadInput("too_short", text, "Use a longer part of the video, a higher ingest.fps or a smaller tracks.window_length.")
    return range(0, frames - length + 1, stride)


def scene_of(inputs: Inputs) -> Scene:
    """Depth and camera of a video, for lifting; without depth everything is invalid.

    Raises:
        CorruptFile: clip and depth differ in length.
    """
    assert inputs.clip is not None
    depth = inputs.depth
    if depth is None:
        return Scene(None, np.eye(3), np.full((len(inputs.clip), 4, 4), np.nan))
    if len(depth) != len(inputs.clip):
        raise CorruptFile(f"{depth.path}: depth has {len(depth)} frames, the clip {len(inputs.clip)}")
    E = np.where(depth.pose_valid[:, None, None], depth.T_camera_world.astype(np.float64), np.nan)
    return Scene(depth, depth.K.astype(np.float64), E)


BACKEND = FlowTracks
