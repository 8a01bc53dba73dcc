"""Sensor depth in a clip's terms: which of the user's depth images belongs to which frame, cut to its view; checked matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.depth.depth_file import DepthFile
from videolift.artifacts import Clip
from videolift.errors import BadInput
from videolift.geometry import is_rotation
from videolift.inputs.framing import Framing

# Rounding both sides of an image 64 px high to whole pixels changes their ratio by up to 1.6 %.
_ASPECT_TOLERANCE = 0.02
_FARTHEST_MEDIAN_M = 50.0
"""Metres; a hand-held scene whose median is beyond is in millimetres."""
_ZOOM_TOLERANCE = 0.01
_ROTATION_TOLERANCE = 1e-2


class SensorDepth:
    """``sensor[k]`` is the depth of the clip's frame k, float32 (H, W) in metres, 0 invalid.

    Attributes:
        K: float64 (3, 3), pixels of the clip; None where the file has no intrinsics.
        T_camera_world: float64 (T, 4, 4) as given, NaN where not finite; None where the file has no extrinsics.

    Raises:
        BadInput: ``depth_frames``, ``depth_view``, ``depth_intrinsics``, ``depth_extrinsics``.
    """

    def __init__(self, file: DepthFile, clip: Clip, source: Path, progress: Callable[[], None]) -> None:
        self._file = file
        self._framing = Framing.from_attrs(clip.attrs)
        (width, height), (source_width, source_height) = file.size_px, self._framing.source_px
        if abs(width / height * source_height / source_width - 1) > _ASPECT_TOLERANCE:
            text = f"depth images are {width}x{height} px, the upright video {source_width}x{source_height}: not the same view"
            remedy = "Give depth of the whole video image, registered to it and upright, at any resolution."
            raise BadInput("depth_view", text, remedy)
        first, frames = clip.cut_from
        if file.frames == frames:
            self._images = first + np.arange(len(clip))
        else:
            # One per frame of the source, then: the nearest in time of the two around each frame of the clip.
            pts_seconds = source_times(source, progress)
            index = np.clip(np.searchsorted(pts_seconds, clip.pts_seconds), 1, max(len(pts_seconds) - 1, 1))
            index -= clip.pts_seconds - pts_seconds[index - 1] < pts_seconds[index] - clip.pts_seconds
            frame_s = float(np.median(np.diff(pts_seconds)))
            if file.frames != len(pts_seconds) or not np.abs(pts_seconds[index] - clip.pts_seconds).max() < frame_s / 2:
                text = f"there are {file.frames} depth images, {frames} frames in the clip and {len(pts_seconds)} in the video"
                raise BadInput("depth_frames", text, "Give one depth image per frame of the video, or one per frame of the clip.")
            self._images = index
        intrinsics, extrinsics = file.matrices("intrinsics", (3,)), file.matrices("extrinsics", (3, 4))
        self.K = None
        if intrinsics is not None:
            self.K = self._framing.map_intrinsics(one_camera(intrinsics[self._images], file.size_px), file.size_px)
        self.T_camera_world = None if extrinsics is None else rigid(extrinsics[self._images])

    def __getitem__(self, frame: int) -> NDArray[np.float32]:
        """See the class.

        Raises:
            BadInput: ``depth_file``, damaged; ``depth_unit``, not metres.
        """
        # Nearest: a mean of two surfaces is a point on neither.
        depth_m = self._framing.map_nearest(self._file[int(self._images[frame])])
        known = depth_m[depth_m > 0]
        if known.size and np.median(known) > _FARTHEST_MEDIAN_M:
            text = f"the median depth of frame {frame} is {np.median(known):.0f}; depths are metres, z along the optical axis"
            raise BadInput("depth_unit", text, "Divide millimetres by 1000 before saving.")
        return depth_m


def source_times(source: Path, progress: Callable[[], None]) -> NDArray[np.float64]:
    """Presentation times of every frame in a video, seconds, ascending; reads packets and decodes nothing."""
    # It brings PyAV, which the process that plans a run does without.
    from stages.ingest.source import open_video_source

    with open_video_source(source, progress) as video:
        tick = float(video.stream.time_base or 1)
        times = [packet.pts for packet in video.container.demux(video.stream) if packet.pts is not None and not packet.is_discard]
    if len(times) < 2:
        raise BadInput(
            "depth_frames", f"{source.name} has {len(times)} frames with a timestamp", "Give one depth image per frame of the clip."
        )
    return np.sort(np.array(times, np.float64)) * tick


def one_camera(intrinsics: NDArray[np.float64], size_px: tuple[int, int]) -> NDArray[np.float64]:
    """The one ``K`` (3, 3) of per-frame intrinsics (T, 3, 3), their median.

    Raises:
        BadInput: ``depth_intrinsics``; not a pinhole's, of another image size, or zooming.
    """
    remedy = "Give pinhole intrinsics in pixels of the depth images: [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]."
    # Per-frame intrinsics flicker by rounding; a zoom is refused below.
    K = np.median(intrinsics, axis=0)
    focal, long_px = np.diag(K)[:2], max(size_px)
    pinhole = np.isfinite(intrinsics).all() and np.allclose(K[2], [0, 0, 1]) and K[1, 0] == 0 and abs(K[0, 1]) < 1e-3 * focal[0]
    if not pinhole or not ((focal > 0.2 * long_px) & (focal < 20 * long_px)).all():
        raise BadInput(
            "depth_intrinsics", f"the intrinsics are {K.round(3).tolist()} for images of {size_px[0]}x{size_px[1]} px", remedy
        )
    if not (0 < K[0, 2] < size_px[0] and 0 < K[1, 2] < size_px[1]):
        text = f"the principal point ({K[0, 2]:.0f}, {K[1, 2]:.0f}) lies outside the depth images of {size_px[0]}x{size_px[1]} px"
        raise BadInput("depth_intrinsics", text, remedy)
    change = float(np.abs(intrinsics - K).max() / focal.min())
    if change > _ZOOM_TOLERANCE:
        text = f"the intrinsics change by {change:.1%} of the focal length over the clip, at most {_ZOOM_TOLERANCE:.0%} is allowed"
        raise BadInput(
            "depth_intrinsics", text, "A video has one camera here: cut it where the zoom changes (start and end in the table)."
        )
    return K


def rigid(extrinsics: ArrayLike) -> NDArray[np.float64]:
    """Rigid ``T_camera_world`` (T, 4, 4) from (T, 3 or 4, 4), rotations made exact; NaN where a matrix is not finite.

    Raises:
        BadInput: ``depth_extrinsics``; something else than rotation and translation.
    """
    given = np.asarray(extrinsics, np.float64)
    finite = np.isfinite(given).all((1, 2))
    T = np.full((len(given), 4, 4), np.nan)
    # A matrix that is not finite stays NaN, which spreads through whatever uses it.
    T[finite] = np.eye(4)
    T[finite, :3] = given[finite, :3]
    sound = is_rotation(T[:, :3, :3], _ROTATION_TOLERANCE) & (given[:, 3:] == [0, 0, 0, 1]).all((1, 2))
    if not sound[finite].all() or not finite.any():
        first = int(np.flatnonzero(~sound)[0])
        text = f"extrinsics of frame {first} are {given[first].round(3).tolist()}: no rotation and translation"
        raise BadInput(
            "depth_extrinsics",
            text,
            "Give world-to-camera matrices [R t; 0 0 0 1] in metres, OpenCV axes, or leave extrinsics out.",
        )
    # the rotation nearest to each: matrices saved with few digits are only nearly rotations
    U, _, Vt = np.linalg.svd(T[finite, :3, :3])
    T[finite, :3, :3] = U @ Vt
    return T
