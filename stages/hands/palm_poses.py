"""Wrists of one hand over a video: how each frame's pose is chosen.

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
from stages.hands.wrist import Errors, WristFit, choose_tilts, fit_by_pnp, hand_size_px, refined
from videolift.geometry import Float, rotation_angle

MethodName = Literal["depth", "palm_pnp"]
Stretch = Sequence[tuple[Detection, list[WristFit]]]
"""Detections of one hand in order of frames, each with its candidates by PnP."""
DEPTH_SHARE = 0.25
"""Of the palm's pixels, so many must agree on a distance before it counts as measured."""
STEADY_DEPTH_M = 0.006
"""Joints whose depth fits the palm this well say something of its tilt; else of its distance alone."""
_MIN_STEADY = 5
"""Joints that must show their depth for that: four lie on some palm whatever they measure."""
_STEADY = Errors(keypoint=0.05, depth_m=0.004)
"""Where depth is that good it is better than pixels: on a palm seen at a slant keypoints are off by 5 to 9 % of the hand."""
_STEADY_SHARE = 0.5
"""Of the frames with measured depth; of a camera whose depth flickers some fit by chance."""
_USUAL_SIZE = 0.03
"""Spread of one hand's size over a video, natural logarithm."""
MAX_MISFIT, MAX_STEADY_MISFIT = 0.08, 0.15
"""A palm off by more than this share of the hand's size has no pose (measured on photos: median 0.021, p90 0.047); steady depth
bears more."""
MAX_LOOKS_APART = 0.08
"""Neither has a hand whose looks disagree by more than this share of its size (tracked hands: median 0.02, p95 0.05; those
beyond 0.06 have wrists that are hardly worse, and are 2 % of all found)."""
MIN_OWN_SIDE = 0.5
"""Nor one that the detector takes for the other side: on tracked hands such rotations are 50 degrees off."""
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
        steady: the palm's joints lie on the depth that is measured there.
        apart_deg: angle between this rotation and that of PnP alone; NaN where only PnP was used.
        distance_ratio: measured distance over that of PnP alone; NaN likewise.
    """

    frame: int
    T_camera_wrist: Float
    method: MethodName
    misfit: float
    residual_px: float
    palm_size: float = 1.0
    steady: bool = False
    apart_deg: float = float("nan")
    distance_ratio: float = float("nan")


def palm_poses(hands: Sequence[Detection], camera: ClipCamera, side: str, *, fingers_away: bool) -> list[PalmPose]:
    """Poses of one side's detections (in order of frames), at most one for each.

    Tilts are chosen along each stretch without a long gap. Then all are fitted again: with the palm's size that frames of steady
    depth agree on, or without asking depth for the tilt, where steady frames are few and so by chance.
    """
    solver = _Solver(camera, Palm.of(side), side, fingers_away)
    # Looks must agree with each other (NaN after a single look passes), and with the side: what is taken for the other hand has
    # that hand's keypoints.
    believed = [
        hand
        for hand in hands
        if not (hand.spread > MAX_LOOKS_APART or (hand.right if side == "right" else 1 - hand.right) < MIN_OWN_SIDE)
    ]
    tried = [(hand, fit_by_pnp(hand.keypoints_px, camera.K, solver.palm)) for hand in believed]
    usable = [(hand, fits) for hand, fits in tried if fits]
    # Over a long gap the last tilt says nothing of the next one.
    gaps = np.diff([hand.frame for hand, _ in usable]) > LINK_GAP + 1
    edges = [0, *(np.flatnonzero(gaps) + 1).tolist(), len(usable)]
    stretches = [usable[first:last] for first, last in zip(edges[:-1], edges[1:], strict=True)]
    poses = [pose for stretch in stretches for pose in solver.poses(stretch)]
    # A wrong tilt has a wrong size, so the size is known only after a first round, and helps to tell the tilts in a second.
    measured = [pose for pose in poses if pose.method == "depth"]
    if len(measured) >= _MIN_MEASURED:
        steady = [pose for pose in measured if pose.steady]
        tilt_by_depth = len(steady) >= max(_MIN_MEASURED, _STEADY_SHARE * len(measured))
        size = float(np.median([pose.palm_size for pose in (steady if tilt_by_depth else measured)]))
        solver = replace(solver, size=size, tilt_by_depth=tilt_by_depth)
        poses = [pose for stretch in stretches for pose in solver.poses(stretch)]
    ratios = [pose.distance_ratio for pose in poses if pose.method == "depth"]
    if len(ratios) >= _MIN_MEASURED:
        # One hand does not grow: where depth has measured its size, distances by PnP are corrected by it.
        usual = float(np.median(ratios))
        for i, pose in enumerate(poses):
            if pose.method == "palm_pnp":
                by_pnp = WristFit(pose.T_camera_wrist, pose.palm_size, pose.residual_px)
                fit = _enlarged(by_pnp, usual, solver.palm)
                poses[i] = replace(pose, T_camera_wrist=fit.T_camera_wrist, palm_size=fit.palm_size)
    return [pose for pose in poses if pose.misfit <= (MAX_STEADY_MISFIT if pose.steady else MAX_MISFIT)]


@dataclass(frozen=True)
class _Solver:
    """Poses of one hand.

    Attributes:
        camera: of the clip.
        palm: of the side.
        side: left or right.
        fingers_away: see `choose_tilts`.
        size: of this hand's palm where depth has measured it, as a multiple of the detector's usual one.
        tilt_by_depth: steady depth decides the tilt; else the pixels do, and depth the distance.
    """

    camera: ClipCamera
    palm: Palm
    side: str
    fingers_away: bool
    size: float | None = None
    tilt_by_depth: bool = True

    def poses(self, stretch: Stretch) -> list[PalmPose]:
        # Both tilts are tried on depth, since it may tell them apart where pixels do not.
        candidates = [[self._on_depth(hand, fit) for fit in fits] for hand, fits in stretch]
        sizes_px = [float(hand_size_px(hand.keypoints_px)) for hand, _ in stretch]
        fitted = [[fit for fit, _ in row] for row in candidates]
        chosen = choose_tilts(fitted, sizes_px, self.side, fingers_away=self.fingers_away)
        poses = []
        for (hand, by_pnp), row, size_px, index in zip(stretch, candidates, sizes_px, chosen, strict=True):
            fit, depth = row[index]
            pose = PalmPose(
                hand.frame,
                fit.T_camera_wrist,
                method="palm_pnp",
                misfit=fit.residual_px / size_px,
                residual_px=fit.residual_px,
                palm_size=fit.palm_size,
            )
            if depth is not None:
                turned = float(np.degrees(rotation_angle(fit.T_camera_wrist[:3, :3], by_pnp[index].T_camera_wrist[:3, :3])))
                steady = self.tilt_by_depth and _is_steady(fit, depth)
                pose = replace(pose, method="depth", steady=steady, apart_deg=turned, distance_ratio=depth.ratio)
            poses.append(pose)
        return poses

    def _on_depth(self, hand: Detection, fit: WristFit) -> tuple[WristFit, PalmDepth | None]:
        """The fit moved to the measured distance, and that; or the fit as it is and None."""
        if self.camera.depth_m is None:
            return fit, None
        uv, K = hand.keypoints_px, self.camera.K
        depth = palm_depth(fit, uv, self.camera.depth_m[hand.frame], K, self.palm)
        if depth is None or depth.share < DEPTH_SHARE:
            return fit, None
        # Pixels cannot tell a large palm far away from a small one near by: both move at once, and the search starts at depth's.
        moved = _enlarged(fit, depth.ratio, self.palm)
        # Fewer leave the tilt to chance: three points lie on any plane.
        if np.isfinite(depth.z_m).sum() < 4:
            return moved, depth
        start = moved if self.size is None else _enlarged(fit, self.size / fit.palm_size, self.palm)
        if self.tilt_by_depth:
            errors = _STEADY if self.size is None else replace(_STEADY, size=_USUAL_SIZE)
            steady = refined(start, uv, K, self.palm, depth.z_m, errors)
            if _is_steady(steady, depth):
                return steady, depth
        return refined(start, uv, K, self.palm, depth.z_m), depth


def _is_steady(fit: WristFit, depth: PalmDepth) -> bool:
    return bool(fit.depth_rms_m <= STEADY_DEPTH_M and np.isfinite(depth.z_m).sum() >= _MIN_STEADY)


def _enlarged(fit: WristFit, ratio: float, palm: Palm) -> WristFit:
    """A larger palm as much farther off, which has the same pixels."""
    T, size = fit.T_camera_wrist.copy(), fit.palm_size * ratio
    shift = (ratio * palm.points_m(fit.palm_size) - palm.points_m(size)).mean(0)
    # The palm changes shape a little with its size (`Palm.points_m`); its middle is what stays on the ray.
    T[:3, 3] = ratio * T[:3, 3] + T[:3, :3] @ shift
    return replace(fit, T_camera_wrist=T, palm_size=size)
