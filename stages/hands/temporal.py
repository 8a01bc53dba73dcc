"""Time: single-frame hand measurements to two steady series, left and right.

Wrist outliers are dropped by looking both ways; short gaps are filled, rotations by slerp, joints bone by bone, and flagged.
Shared by every hands backend; knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.artifacts import SIDES, HandsWriter
from videolift.geometry import Float, invert_pose, slerp, transform

_ROWS = 1024
"""Rows written at once."""
PARENTS = (-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)
"""Parent of each of the 21 joints in OpenPose order, -1 for the wrist."""


@dataclass(frozen=True)
class Series:
    """Hands over time; the fields of `videolift.artifacts.Hands` except ``betas``, NaN where not measured.

    Attributes:
        valid, interpolated: bool (T, 2).
        score: (T, 2).
        keypoints_px: (T, 2, 21, 2).
        T_camera_wrist: (T, 2, 4, 4), metres.
        joints_camera: (T, 2, 21, 3).
        mano_pose: (T, 2, 15, 3, 3).
        method: u8 (T, 2), index into `METHODS`.
        side_known: bool (T, 2).
    """

    valid: NDArray[np.bool_]
    interpolated: NDArray[np.bool_]
    score: Float
    keypoints_px: Float
    T_camera_wrist: Float
    joints_camera: Float
    mano_pose: Float
    method: NDArray[np.uint8]
    side_known: NDArray[np.bool_]

    @classmethod
    def empty(cls, frames: int) -> Series:
        """No hand in any of ``frames``."""
        off = np.zeros((frames, 2), bool)
        shapes = {"score": (), "keypoints_px": (21, 2), "T_camera_wrist": (4, 4), "joints_camera": (21, 3), "mano_pose": (15, 3, 3)}
        floats = {name: np.full((frames, 2, *shape), np.nan) for name, shape in shapes.items()}
        return cls(off, off.copy(), **floats, method=np.zeros((frames, 2), np.uint8), side_known=np.ones((frames, 2), bool))

    def copy(self) -> Series:
        """A series with arrays of its own."""
        return replace(self, **{name: array.copy() for name, array in vars(self).items()})


def steady(series: Series, pts_seconds: ArrayLike, *, max_gap: int, max_speed_m_s: float) -> Series:
    """Outliers dropped, then gaps of at most ``max_gap`` frames filled and flagged ``interpolated``.

    Args:
        series: measured frames only.
        pts_seconds: (T), increasing.
        max_gap: frames, 0 for none.
        max_speed_m_s: a wrist faster than this jumps.
    """
    out, times = series.copy(), np.asarray(pts_seconds, np.float64)
    for side in range(len(SIDES)):
        frames = np.flatnonzero(out.valid[:, side])
        good = consistent(
            out.T_camera_wrist[frames, side, :3, 3], times[frames], frames, max_burst=max_gap, max_speed=max_speed_m_s
        )
        jumps = frames[~good]
        out.valid[jumps, side] = False
        out.method[jumps, side], out.side_known[jumps, side] = 0, True  # what the artifact says where there is no hand
        for array in (out.score, out.keypoints_px, out.T_camera_wrist, out.joints_camera, out.mano_pose):
            array[jumps, side] = np.nan
        frames = frames[good]
        for first, last in zip(frames[:-1], frames[1:], strict=True):
            if 1 < last - first <= max_gap + 1:
                _fill(out, times, int(first), int(last), side)
    return out


def consistent(
    positions_m: ArrayLike, times_s: ArrayLike, frames: ArrayLike, *, max_burst: int, max_speed: float
) -> NDArray[np.bool_]:
    """True (n) for positions (n, 3) that belong to the motion; False for short bursts that jump away from it.

    The series is cut where it jumps. The shortest piece goes first if it spans at most ``max_burst`` frames and a longer piece
    is next to it in time; then the cuts are looked at anew, since its neighbours may belong together. Nothing is decided by
    order, so an outlier in the first frame costs that frame alone. Pieces of equal length stay: there is no telling which is wrong.
    """
    P, t, frames = np.asarray(positions_m, np.float64), np.asarray(times_s, np.float64), np.asarray(frames)
    kept = np.arange(len(P))
    while True:
        step = np.linalg.norm(np.diff(P[kept], axis=0), axis=1)
        pieces = np.split(kept, np.flatnonzero(step > max_speed * np.diff(t[kept])) + 1)
        sizes = [len(piece) for piece in pieces]
        spans = [int(frames[piece[-1]] - frames[piece[0]]) + 1 if len(piece) else 0 for piece in pieces]
        # The first and the last piece have one neighbour; 0 stands for the other and is never the longer one.
        beside = [max(before, after) for before, after in zip([0, *sizes[:-1]], [*sizes[1:], 0], strict=True)]
        bursts = [i for i, n in enumerate(sizes) if n and spans[i] <= max(max_burst, 1) and beside[i] > n]
        doomed = min(bursts, key=sizes.__getitem__, default=None)
        if doomed is None:
            return np.isin(np.arange(len(P)), kept)
        kept = np.setdiff1d(kept, pieces[doomed])


def interpolate_joints(first: Float, last: Float, T_first: Float, T_last: Float, T_at: Float, share: float) -> Float:
    """Joints (21, 3) in the camera between two frames, at ``share`` of the way.

    Bones are turned (direction by slerp, length linearly) in the wrist's own frame, so that they keep their length while hand
    and fingers rotate; a joint whose parent is unknown moves linearly in that frame. NaN where either end is.

    Args:
        first, last: (21, 3) in their own frames' cameras.
        T_first, T_last, T_at: ``T_camera_wrist`` of the ends and of the result.
        share: 0 to 1.
    """
    # In the hand's own frame, so that a hand that turns does not shrink on the way.
    a, b = transform(invert_pose(T_first), first), transform(invert_pose(T_last), last)
    out = (1 - share) * a + share * b
    # Parents come before their children in this order.
    for joint, parent in enumerate(PARENTS):
        if parent >= 0 and np.isfinite(out[[joint, parent]]).all():
            out[joint] = out[parent] + _turn(a[joint] - a[parent], b[joint] - b[parent], share)
    return transform(T_at, out)


def median_betas(betas: ArrayLike, valid: ArrayLike) -> Float:
    """Shape (2, 10) of both hands: median of (T, 2, 10) over measured frames (T, 2), NaN for a hand never measured."""
    shapes = np.where(np.asarray(valid, bool)[..., None], np.asarray(betas, np.float64), np.nan)
    out = np.full(shapes.shape[1:], np.nan)
    for side in range(shapes.shape[1]):
        # The median: one person's hands do not change shape, single estimates do.
        seen = shapes[np.isfinite(shapes[:, side]).all(1), side]
        if len(seen):
            out[side] = np.median(seen, axis=0)
    return out


def write_series(series: Series, betas: ArrayLike, out: HandsWriter) -> None:
    """Appends a series to an artifact, with the shape (2, 10) of both hands."""
    for start in range(0, len(series.valid), _ROWS):
        out.append_frames(**{name: array[start : start + _ROWS] for name, array in vars(series).items()})
    out.put(betas=betas)


def _fill(out: Series, times: Float, first: int, last: int, side: int) -> None:
    inside = np.arange(first + 1, last)
    # By time, not by count: frames of phones are not evenly spaced.
    shares = (times[inside] - times[first]) / (times[last] - times[first])
    ends = out.T_camera_wrist[[first, last], side]
    pose_ends = out.mano_pose[[first, last], side]
    poses = np.tile(np.eye(4), (len(inside), 1, 1))
    poses[:, :3, :3] = slerp([0.0, 1.0], ends[:, :3, :3], shares)
    poses[:, :3, 3] = (1 - shares[:, None]) * ends[0, :3, 3] + shares[:, None] * ends[1, :3, 3]
    out.T_camera_wrist[inside, side] = poses
    if np.isfinite(pose_ends).all():
        for joint in range(pose_ends.shape[1]):
            out.mano_pose[inside, side, joint] = slerp([0.0, 1.0], pose_ends[:, joint], shares)
    for frame, share in zip(inside, shares, strict=True):
        a, b = out.joints_camera[first, side], out.joints_camera[last, side]
        T_at = out.T_camera_wrist[frame, side]
        between = interpolate_joints(a, b, T_first=ends[0], T_last=ends[1], T_at=T_at, share=float(share))
        out.joints_camera[frame, side] = between
        # A frame may have keypoints and no pose; what was seen is not replaced.
        if np.isnan(out.keypoints_px[frame, side]).any():
            out.keypoints_px[frame, side] = (1 - share) * out.keypoints_px[first, side] + share * out.keypoints_px[last, side]
    out.valid[inside, side] = out.interpolated[inside, side] = True


def _turn(a: Float, b: Float, share: float) -> Float:
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    if min(lengths) < 1e-9:
        return (1 - share) * a + share * b
    u, v = a / lengths[0], b / lengths[1]
    angle = np.arccos(np.clip(u @ v, -1.0, 1.0))
    # parallel directions need no turn, opposite ones have no plane to turn in
    if angle < 1e-6 or np.pi - angle < 1e-6:
        direction = u
    else:
        direction = (np.sin((1 - share) * angle) * u + np.sin(share * angle) * v) / np.sin(angle)
    return np.asarray(((1 - share) * lengths[0] + share * lengths[1]) * direction)
