"""Windows of a clip as every tracker meets them: where they start, what lifts their points, how they are written and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.backend import Inputs, Progress
from stages.segments import even_segments, resumable
from stages.tracks.chain import lift_nearest
from videolift.artifacts import TracksWriter
from videolift.artifacts.tracks import Window
from videolift.dataset.windows import window_starts
from videolift.errors import BadInput, CorruptFile
from videolift.geometry import Float


class FrameReader(Protocol):
    """What is needed of a clip, a depth or masks: one frame at a time."""

    def __getitem__(self, frame: int) -> NDArray[Any]: ...


@dataclass(frozen=True)
class LiftingScene:
    """What tracks are lifted with.

    Attributes:
        depth: z per frame (H, W), 0 invalid; None where there is no depth, and all of it is invalid.
        K: (3, 3).
        T_camera_world: (T, 4, 4), NaN where not known.
    """

    depth: FrameReader | None
    K: Float
    T_camera_world: Float

    @classmethod
    def of(cls, inputs: Inputs) -> LiftingScene:
        """Depth and camera of a video.

        Raises:
            CorruptFile: clip and depth differ in length.
        """
        assert inputs.clip is not None
        depth = inputs.depth
        if depth is None:
            return cls(None, np.eye(3), np.full((len(inputs.clip), 4, 4), np.nan))
        # Damaged or of another run: by index frames of either would be lifted with the other's depth.
        if len(depth) != len(inputs.clip):
            raise CorruptFile(f"{depth.path}: depth has {len(depth)} frames, the clip {len(inputs.clip)}")
        # NaN spreads through every product, so an unknown pose can never pass for a known one.
        T_camera_world = np.where(depth.pose_valid[:, None, None], depth.T_camera_world.astype(np.float64), np.nan)
        return cls(depth, depth.K.astype(np.float64), T_camera_world)

    def lift(self, uv_px: Float, frame: int) -> tuple[Float, NDArray[np.bool_]]:
        """Points (N, 3) behind pixels (N, 2) of ``frame``, in that frame's camera, and where they are valid (N)."""
        if self.depth is None:
            return np.full((len(uv_px), 3), np.nan), np.zeros(len(uv_px), bool)
        return lift_nearest(uv_px, np.asarray(self.depth[frame]), self.K)


def tracked_starts(frames: int, length: int, stride: int) -> range:
    """First frames of the windows of a clip, at least one.

    Raises:
        BadInput: fewer frames than one window.
    """
    windows = len(window_starts(frames, length, stride))
    if not windows:
        text = f"the clip has {frames} frames, a window needs {length}"
        raise BadInput("too_short", text, "Use a longer part of the video, a higher ingest.fps or a smaller tracks.window_length.")
    return range(0, windows * stride, stride)


def write_windows(
    out: TracksWriter,
    starts: range,
    *,
    segment: float,
    track: Callable[[range], Iterator[Window]],
    count: Callable[[Window], ArrayLike],
    progress: Progress,
) -> NDArray[np.int64]:
    """Appends the window of every start, going on where a killed attempt was committed.

    Args:
        out: takes the windows.
        starts: first frames of all windows.
        segment: windows committed together.
        track: yields the windows of those starts that are left, in order.
        count: whole numbers (n) wanted of every window.
        progress: told how many windows are written.

    Returns:
        What ``count`` said of every window (W, n), also of those that a killed attempt wrote.
    """
    windows: Iterator[Window] | None = None

    def write_segment(first: int, end: int) -> dict[str, ArrayLike]:
        nonlocal windows
        # Tracking begins at the first window that is left: what a killed attempt wrote is not tracked again.
        if windows is None:
            windows = track(starts[first:])
        counts = []
        for done, window in enumerate(islice(windows, end - first), start=first + 1):
            out.append_window(window)
            counts.append(np.asarray(count(window), np.int64))
            progress(done, len(starts))
        return {"counts": np.stack(counts)}

    parts = resumable(out, "windows", even_segments(len(starts), segment), write_segment, commits=True)
    return np.concatenate([part["counts"] for part in parts])
