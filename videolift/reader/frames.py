"""Parts of a sample that belong to single frames, read from one packaged file; what is not known is 0 and its mask False."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.dataset.file import PackagedFile
from videolift.dataset.windows import Bools
from videolift.reader.selection import Selection

Sample = dict[str, Any]
"""Arrays, and text for `video` and the like, by name."""

_PER_HAND: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "keypoints": ("hands/keypoints_px", "keypoints_px", (2, 21, 2)),
    "joints": ("hands/joints_camera", "joints_camera", (2, 21, 3)),
    "hand_poses": ("hands/T_camera_wrist", "T_camera_wrist", (2, 4, 4)),
}
"""Field of the selection to the stored array, the key and its shape per frame."""


def read_frames(file: PackagedFile, frames: NDArray[np.integer[Any]], selection: Selection) -> Sample:
    """Per-frame parts of the frames (F) of one file.

    Keys, as far as they are selected: ``seconds`` f64 (F); ``rgb`` u8 (F, 3, S, S); ``depth`` f32 (F, S, S) with ``depth_valid``;
    ``intrinsics`` (3, 3) and ``T_camera_world`` (F, 4, 4) with ``camera_valid`` (F); ``keypoints_px`` (F, 2, 21, 2),
    ``joints_camera`` (F, 2, 21, 3), ``T_camera_wrist`` (F, 2, 4, 4), each with a mask (F, 2), and ``hand_interpolated`` (F, 2);
    ``instance`` u8 (F, S, S) with ``instance_valid``; ``quality`` f32 (F, n) with ``quality_valid``.

    Raises:
        CorruptFile: the file cannot be read.
    """
    image, count = file.size_px[::-1], len(frames)
    rows = slice(int(frames[0]), int(frames[-1]) + 1) if (np.diff(frames) == 1).all() else frames
    sample: Sample = {"seconds": _rows(file, "timestamps", frames)}
    if selection.rgb:
        sample["rgb"] = file.rgb(rows)
    if selection.depth:
        depth = file.depth(rows) if file.has("depth") else np.zeros((count, *image), np.float32)
        sample |= {"depth": depth, "depth_valid": depth > 0}
    if selection.camera:
        known = file.has("camera/intrinsics")
        T = _rows(file, "camera/T_camera_world", frames) if known else np.zeros((count, 4, 4), np.float32)
        valid = _rows(file, "camera/pose_valid", frames) if known else np.zeros(count, bool)
        sample["intrinsics"] = np.array(file.array("camera/intrinsics")) if known else np.zeros((3, 3), np.float32)
        sample |= {"T_camera_world": zero_unknown(T, valid), "camera_valid": valid}
    for name, (stored, key, shape) in _PER_HAND.items():
        if not getattr(selection, name):
            continue
        if not file.has(stored):
            sample |= {key: np.zeros((count, *shape), np.float32), f"{key}_valid": np.zeros((count, 2), bool)}
            continue
        values = _rows(file, stored, frames)
        per_hand = np.isfinite(values).all(tuple(range(2, values.ndim)))
        if stored != "hands/keypoints_px":  # keypoints are detections; what is in 3D counts only where the hand is valid
            per_hand &= _rows(file, "hands/valid", frames)
        sample |= {key: zero_unknown(values, per_hand), f"{key}_valid": per_hand}
    if selection.keypoints or selection.joints or selection.hand_poses:
        known = file.has("hands/interpolated")
        sample["hand_interpolated"] = _rows(file, "hands/interpolated", frames) if known else np.zeros((count, 2), bool)
    if selection.masks:
        known = file.has("masks/instance")
        sample["instance"] = _rows(file, "masks/instance", frames) if known else np.zeros((count, *image), np.uint8)
        sample["instance_valid"] = np.array(known)
    if selection.quality:
        unmeasured = np.full(count, np.nan, np.float32)
        names = [f"quality/{name}" for name in selection.quality]
        scores = np.stack([_rows(file, name, frames) if file.has(name) else unmeasured for name in names], -1)
        measured = np.isfinite(scores)
        sample |= {"quality": zero_unknown(scores, measured), "quality_valid": measured}
    return sample


def zero_unknown(array: NDArray[Any], known: Bools) -> NDArray[Any]:
    """``array`` with 0 where ``known``, whose axes are the array's first ones, is False."""
    # The usual case, without a copy.
    if known.all():
        return array
    return np.where(known.reshape(known.shape + (1,) * (array.ndim - known.ndim)), array, array.dtype.type(0))


def _rows(file: PackagedFile, name: str, frames: NDArray[np.integer[Any]]) -> NDArray[Any]:
    first, last = int(frames.min()), int(frames.max())
    return np.ascontiguousarray(file.array(name, slice(first, last + 1))[frames - first])
