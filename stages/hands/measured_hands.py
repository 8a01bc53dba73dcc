"""Hands before anything is done about time: what each side's detections say, frame by frame, and how well it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.backend import Quality
from stages.hands.clip_camera import ClipCamera
from stages.hands.hand_depth import joints_on_depth
from stages.hands.identity import Detection
from stages.hands.palm import Palm
from stages.hands.palm_poses import PalmPose, palm_poses
from stages.hands.temporal import Series
from videolift.artifacts import METHODS, PALM_JOINTS, SIDES
from videolift.dataset.hand_scores import jitter_deg, jitter_px
from videolift.geometry import Float, project, transform

POOR_FIT = 0.06
"""A palm off by more than this share of the hand's size fits poorly (measured on photos: median 0.021, p90 0.047)."""
MAX_APART_DEG = 25.0
"""Rotations by depth and by PnP that differ by more, in the median, mean that one of them is wrong."""
MAX_JITTER_DEG = 15.0
"""A wrist that strays from the mean of its 11 frames by more, in the median, is noise (real hands at work: 3 to 7)."""


@dataclass(frozen=True)
class MeasuredHands:
    """What was measured.

    Attributes:
        series: fields of the artifact.
        method: per side the method of most of its frames, None for a side without a hand.
        residual_px: per side the median distance of the fitted palm from its keypoints, None likewise.
        poor_share: share of fits whose palm is off by more than `POOR_FIT` of the hand's size.
        lost_share: share of detections whose palm gives no pose.
        apart_deg: median angle between the rotations by depth and by PnP; NaN where there are not both.
        distance_spread: scatter of the distance by depth over that by PnP: half of what lies between its 16th and 84th percentile.
    """

    series: Series
    method: dict[str, str | None]
    residual_px: dict[str, float | None]
    poor_share: float
    lost_share: float
    apart_deg: float
    distance_spread: float


def measure_hands(
    frames: int, sides: tuple[Sequence[Detection], Sequence[Detection]], camera: ClipCamera, *, fingers_away: bool
) -> MeasuredHands:
    """Wrists and joints of the detections of both sides."""
    series = Series.empty(frames)
    method: dict[str, str | None] = {}
    residual_px: dict[str, float | None] = {}
    every: list[PalmPose] = []
    for i, (side, hands) in enumerate(zip(SIDES, sides, strict=True)):
        for hand in hands:
            series.keypoints_px[hand.frame, i], series.score[hand.frame, i] = hand.keypoints_px, hand.score
            series.side_known[hand.frame, i] = hand.side_known
        poses = palm_poses(hands, camera, side, fingers_away=fingers_away)
        for pose in poses:
            k, T = pose.frame, pose.T_camera_wrist
            series.T_camera_wrist[k, i], series.valid[k, i] = T, True
            series.method[k, i] = METHODS.index(pose.method)
            seen = series.keypoints_px[k, i].copy()
            palm = transform(T, Palm.of(side).points_m(pose.palm_size))
            if pose.method == "depth" and camera.depth_m is not None:
                joints = joints_on_depth(seen, camera.depth_m[k], camera.K, float(palm[:, 2].mean()))
                # the wrist is that of the fitted pose: depth at its own pixel may be a sleeve's
                joints[0] = T[:3, 3]
                series.joints_camera[k, i] = joints
            series.keypoints_px[k, i, 0] = true_wrist_px(seen[0], T, palm, camera.K)
        names = [pose.method for pose in poses]
        method[side] = max(set(names), key=names.count) if names else None
        residual_px[side] = round(float(np.median([pose.residual_px for pose in poses])), 3) if poses else None
        every += poses
    detections = sum(len(hands) for hands in sides)
    # In logarithms: 2/3 and 3/2 of the distance are equally wrong.
    ratios = np.log([pose.distance_ratio for pose in every if pose.method == "depth"])
    return MeasuredHands(
        series,
        method,
        residual_px,
        poor_share=float(np.mean([pose.misfit > POOR_FIT for pose in every])) if every else 0.0,
        lost_share=1 - len(every) / detections if detections else 0.0,
        apart_deg=float(np.median([pose.apart_deg for pose in every if pose.method == "depth"])) if len(ratios) else float("nan"),
        distance_spread=float(np.ptp(np.percentile(ratios, [16, 84])) / 2) if len(ratios) else float("nan"),
    )


def true_wrist_px(seen_px: Float, T_camera_wrist: Float, palm_camera: Float, K: Float) -> Float:
    """Pixel (2) of the true wrist: the detector's, moved by what lies between its wrist and the true one on the fitted palm.

    So that keypoint and pose speak of one point, and their distance still says how well the fit meets the detector's.
    """
    wrist_index = PALM_JOINTS.index(0)
    moved = project(T_camera_wrist[:3, 3], K) - project(palm_camera[wrist_index], K)
    return np.asarray(seen_px + moved if np.isfinite(moved).all() else seen_px)


def hands_quality(series: Series, measured: MeasuredHands, camera: ClipCamera) -> Quality:
    """What a person should know of the result."""
    figures = {f"{side}_valid_share": float(series.valid[:, i].mean()) for i, side in enumerate(SIDES)}
    figures |= {
        "interpolated_share": float(series.interpolated.mean()),
        "poor_fit_share": measured.poor_share,
        "no_pose_share": measured.lost_share,
        "depth_share": float((series.method == METHODS.index("depth")).sum() / max(series.valid.sum(), 1)),
    }
    if np.isfinite(series.score).any():
        figures["unknown_side_share"] = float((~series.side_known)[np.isfinite(series.score)].mean())
    own = series.valid & ~series.interpolated
    scores = {
        "apart_deg": measured.apart_deg,
        "distance_spread": measured.distance_spread,
        "jitter_px": float(np.nanmedian(jitter_px(series.keypoints_px, own))) if own.any() else float("nan"),
        "jitter_deg": float(np.nanmedian(jitter_deg(series.T_camera_wrist, own))) if own.any() else float("nan"),
    }
    # A receipt holds no NaN: what could not be measured is left out.
    figures |= {name: value for name, value in scores.items() if np.isfinite(value)}
    checks = []
    if np.isnan(series.score).all():
        checks.append("no hand in view")
    if camera.intrinsics == "assumed":
        checks.append(f"the focal length is assumed ({camera.K[0, 0]:.0f} px): hand poses are rough")
    if measured.poor_share > 0.5:
        checks.append(f"{measured.poor_share:.0%} of the palms fit their keypoints poorly: hand poses are rough")
    if measured.lost_share > 0.3:
        checks.append(f"{measured.lost_share:.0%} of the hands seen have no pose: their looks disagree or no palm fits them")
    if measured.apart_deg > MAX_APART_DEG:
        checks.append(f"wrists by depth and by the palm's pixels differ by {measured.apart_deg:.0f} degrees: one of them is wrong")
    if scores["jitter_deg"] > MAX_JITTER_DEG:
        checks.append(f"wrists jitter by {scores['jitter_deg']:.0f} degrees: their rotation is mostly noise")
    return Quality(len(series.valid), tuple(checks), figures)
