"""Wrists of one hand over a video: how each frame earns its pose.

By measured depth where most of the palm agrees on one distance; else by the palm's size (PnP), corrected by what depth says of this
hand in other frames; else not at all. The rotation rests on the pixels, and on depth where it is steady over the palm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from stages.hands.clip_camera import ClipCamera
from stages.hands.hand_depth import PalmDepth, palm_depth
from stages.hands.identity import LINK_GAP, Detection
from stages.hands.palm import Palm
from stages.hands.wrist import WristFit, choose_tilts, fit_by_pnp, hand_size_px, refined
from videolift.geometry import Float, rotation_angle

MethodName = Literal["depth", "palm_pnp"]
DEPTH_SHARE = 0.25
"""Of the palm's pixels, so many must agree on a distance before it counts as measured."""
STEADY_DEPTH_M = 0.008
"""Joints whose depth fits the palm this well say something of its tilt; else of its distance alone."""
_DISTANCE_SIGMA_M = 0.03
MAX_MISFIT = 0.08
"""A palm off by more than this share of the hand's size has no pose (measured on photos: median 0.021, p90 0.047)."""
MAX_SPREAD = 0.045
"""Neither has a hand whose looks disagree by more than this share of its size."""
_MIN_MEASURED = 10
"""Frames with measured depth that tell a hand's size for the others."""


@dataclass(frozen=True)
class PalmPose:
    """One frame's wrist.

    Attributes:
        frame: index in the clip.
        T_camera_wrist: (4, 4), metres.
        method: ``depth`` or ``palm_pnp``.
        misfit: rms distance of the palm from its keypoints as a share of the hand's size.
        residual_px: likewise in pixels.
        palm_size: as a multiple of the detector's usual palm.
        apart_deg: angle between this rotation and that of PnP alone; NaN where only PnP was used.
        distance_ratio: measured distance over that of PnP alone; NaN likewise.
    """

    frame: int
    T_camera_wrist: Float
    method: MethodName
    misfit: float
    residual_px: float
    palm_size: float = 1.0
    apart_deg: float = float("nan")
    distance_ratio: float = float("nan")


def palm_poses(hands: Sequence[Detection], camera: ClipCamera, side: str, *, fingers_away: bool) -> list[PalmPose]:
    """Poses of one side's detections (in order of frames), at most one for each.

    Tilts are chosen along each stretch without a long gap.
    """
    palm = Palm.of(side)
    tried = [(hand, fit_by_pnp(hand.keypoints_px, camera.K, palm)) for hand in hands if not hand.spread > MAX_SPREAD]
    usable = [(hand, fits) for hand, fits in tried if fits]
    gaps = np.diff([hand.frame for hand, _ in usable]) > LINK_GAP + 1
    edges = [0, *(np.flatnonzero(gaps) + 1).tolist(), len(usable)]
    poses: list[PalmPose] = []
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        poses += _stretch(usable[first:last], camera, palm, side, fingers_away=fingers_away)
    return [pose for pose in _with_usual_size(poses, palm) if pose.misfit <= MAX_MISFIT]


def _stretch(
    stretch: list[tuple[Detection, list[WristFit]]], camera: ClipCamera, palm: Palm, side: str, *, fingers_away: bool
) -> list[PalmPose]:
    candidates = [[_on_depth(hand, fit, camera, palm) for fit in fits] for hand, fits in stretch]
    sizes = [float(hand_size_px(hand.keypoints_px)) for hand, _ in stretch]
    fitted = [[fit for fit, _ in row] for row in candidates]
    chosen = choose_tilts(fitted, sizes, side, fingers_away=fingers_away)
    poses = []
    for (hand, fits), row, size, index in zip(stretch, candidates, sizes, chosen, strict=True):
        fit, depth = row[index]
        poses.append(_pose(hand, fit, fits[index], depth, size))
    return poses


def _pose(hand: Detection, fit: WristFit, by_pnp: WristFit, depth: PalmDepth | None, size_px: float) -> PalmPose:
    pose = PalmPose(hand.frame, fit.T_camera_wrist, "palm_pnp", fit.residual_px / size_px, fit.residual_px, fit.palm_size)
    if depth is None:
        return pose
    turned = float(np.degrees(rotation_angle(fit.T_camera_wrist[:3, :3], by_pnp.T_camera_wrist[:3, :3])))
    return replace(pose, method="depth", apart_deg=turned, distance_ratio=depth.ratio)


def _on_depth(hand: Detection, fit: WristFit, camera: ClipCamera, palm: Palm) -> tuple[WristFit, PalmDepth | None]:
    """The fit moved to the measured distance, and that; or the fit as it is and None."""
    if camera.depth_m is None:
        return fit, None
    depth = palm_depth(fit, hand.keypoints_px, camera.depth_m[hand.frame], camera.K, palm)
    if depth is None or depth.share < DEPTH_SHARE:
        return fit, None
    moved = _enlarged(fit, depth.ratio, palm)
    if np.isfinite(depth.z_m).sum() < 4:
        return moved, depth
    steady = refined(moved, hand.keypoints_px, camera.K, palm, depth.z_m)
    if steady.depth_rms_m <= STEADY_DEPTH_M:
        return steady, depth
    return refined(moved, hand.keypoints_px, camera.K, palm, depth.z_m, _DISTANCE_SIGMA_M), depth


def _with_usual_size(poses: list[PalmPose], palm: Palm) -> list[PalmPose]:
    """Distances by PnP corrected by the hand's own size, where enough frames have measured it: one hand does not grow."""
    ratios = [pose.distance_ratio for pose in poses if pose.method == "depth"]
    if len(ratios) < _MIN_MEASURED:
        return poses
    usual = float(np.median(ratios))
    out = []
    for pose in poses:
        if pose.method == "palm_pnp":
            fit = _enlarged(WristFit(pose.T_camera_wrist, pose.palm_size, pose.residual_px), usual, palm)
            pose = replace(pose, T_camera_wrist=fit.T_camera_wrist, palm_size=fit.palm_size)
        out.append(pose)
    return out


def _enlarged(fit: WristFit, ratio: float, palm: Palm) -> WristFit:
    """A larger palm as much farther off, which has the same pixels."""
    T, size = fit.T_camera_wrist.copy(), fit.palm_size * ratio
    shift = (ratio * palm.points_m(fit.palm_size) - palm.points_m(size)).mean(0)
    T[:3, 3] = ratio * T[:3, 3] + T[:3, :3] @ shift
    return replace(fit, T_camera_wrist=T, palm_size=size)
