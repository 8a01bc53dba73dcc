"""Repairs of the predecessor's arrays: window poses composed in the wrong order, joints rotated twice, left hands not mirrored,
fingers interpolated as matrices. Pure functions; what cannot be undone becomes NaN and is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import JOINTS, MANO_JOINTS, SIDES
from videolift.artifacts.tracks import Window
from videolift.geometry import Float, T_cam0_camk, is_rotation, mirror_rotation, project, slerp, transform

_ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Imported:
    """Hands ready for `videolift.artifacts.HandsWriter`, and sentences about what was done to them."""

    arrays: dict[str, NDArray[Any]]
    betas: NDArray[np.float32]
    notes: tuple[str, ...]


def repair_window(
    xyz: NDArray[Any], window_poses: NDArray[Any], T_camera_world: NDArray[Any], K: NDArray[Any], start: int
) -> tuple[Window, float]:
    """One window of tracks in its true first camera.

    The tracker was told that camera k sees ``P_k = inv(E_0) E_k`` of the window's frame, so ``P_k x`` is the point in camera k,
    whatever P_k should have been; from there the true camera poses lead to camera 0.

    Args:
        xyz: (L, N, 3) as stored.
        window_poses: (L, 4, 4) as stored, P_k.
        T_camera_world: (L, 4, 4), E_k.
        K: (3, 3) in our convention.
        start: the window's first frame.

    Returns:
        The window, and the farthest that a point was moved.
    """
    in_camera_k = transform(window_poses, np.asarray(xyz, np.float64))
    repaired = transform(T_cam0_camk(T_camera_world), in_camera_k)
    known = np.isfinite(repaired).all(-1) & (in_camera_k[..., 2] > 0)
    shift = float(np.abs(repaired - xyz)[known].max()) if known.any() else 0.0
    length, points = known.shape
    window = Window(
        start=start,
        frames_tracked=length,
        xyz_cam0=repaired.astype(np.float32),
        uv_px=project(in_camera_k, K).astype(np.float32),
        visible=np.ones((length, points), bool),
        valid3d=known,
        label=np.zeros(points, np.uint8),
    )
    return window, shift


def repair_hands(found: Mapping[str, Any], K: NDArray[Any], *, metric: bool) -> Imported:
    """Both hands of a video.

    Args:
        found: the predecessor's arrays by its names, ``{side}_valid``, ``{side}_wrist_pose`` and so on.
        K: (3, 3) in our convention.
        metric: its depth was in metres; otherwise wrists stood in the depth's unknown unit while fingers were in metres, and
            translations and joints are given up.
    """
    frames = len(found["left_valid"])
    arrays: dict[str, NDArray[Any]] = {
        "valid": np.zeros((frames, 2), bool),
        "interpolated": np.zeros((frames, 2), bool),
        "score": np.full((frames, 2), np.nan),
        "keypoints_px": np.full((frames, 2, len(JOINTS), 2), np.nan),
        "T_camera_wrist": np.full((frames, 2, 4, 4), np.nan),
        "joints_camera": np.full((frames, 2, len(JOINTS), 3), np.nan),
        "mano_pose": np.full((frames, 2, len(MANO_JOINTS), 3, 3), np.nan),
    }
    betas, lost = np.full((2, 10), np.nan, np.float32), 0
    for side, name in enumerate(SIDES):
        valid = np.asarray(found[f"{name}_valid"], bool)
        if not valid.any():
            continue
        fingers: Float = np.asarray(found[f"{name}_hand_pose"], np.float64)
        # The predecessor interpolated matrices number by number. What results is no rotation, which tells those frames apart.
        filled = valid & ~is_rotation(fingers, _ROTATION_TOLERANCE).all(-1)
        wrist = np.asarray(found[f"{name}_wrist_pose"], np.float64).copy()
        stored = np.asarray(found[f"{name}_joints_3d"], np.float64)
        R, t = wrist[:, :3, :3], wrist[:, :3, 3]
        local = (stored - t[:, None]) @ R  # R^T (x - t), row by row: R was in the joints already
        # Half a pixel further: wrists were lifted from a pixel's corner.
        wrist[:, 0, 3] += 0.5 * t[:, 2] / K[0, 0]
        wrist[:, 1, 3] += 0.5 * t[:, 2] / K[1, 1]
        joints = local + wrist[:, None, :3, 3]
        # Where R is not a rotation, its transpose does not undo it.
        joints[filled] = np.nan
        fingers = _slerped(fingers, valid & ~filled, filled)
        if name == "left":  # its model is a right hand's, seen in a mirror
            wrist[:, :3, :3], fingers = mirror_rotation(wrist[:, :3, :3]), mirror_rotation(fingers)
        if not metric:
            wrist[:, :3, 3], joints = np.nan, np.full_like(joints, np.nan)
        arrays["valid"][:, side], arrays["interpolated"][:, side] = valid, filled
        for key, values in (("T_camera_wrist", wrist), ("joints_camera", joints), ("mano_pose", fingers)):
            arrays[key][valid, side] = values[valid]
        betas[side] = np.asarray(found.get(f"{name}_betas", np.full(10, np.nan)), np.float32).ravel()
        lost += int(filled.sum())
    notes = ["hands: joints were rotated twice and are rotated once again", "hands: wrists moved by half a pixel"]
    if arrays["valid"][:, 0].any():
        notes.append("hands: left wrists and fingers mirrored, they were those of a right hand")
    if lost:
        notes.append(f"hands: {lost} hands were interpolated; fingers turned properly, joints given up")
    notes.append("hands: interpolated hands that hardly moved cannot be told from measured ones")
    if not metric:
        notes.append("hands: translations and joints given up, they mixed metres with the depth's unknown unit")
    return Imported(arrays, betas, tuple(notes))


def _slerped(fingers: Float, measured: NDArray[np.bool_], filled: NDArray[np.bool_]) -> Float:
    out, known = fingers.copy(), np.flatnonzero(measured)
    for t in np.flatnonzero(filled):
        before, after = known[known < t], known[known > t]
        # Before the first and after the last measured frame there is nothing to interpolate between.
        if not (len(before) and len(after)):
            out[t] = np.nan
            continue
        ends = (before[-1], after[0])
        for joint in range(fingers.shape[1]):
            out[t, joint] = slerp(ends, fingers[list(ends), joint], [t])[0]
    return out
