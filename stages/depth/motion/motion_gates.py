"""Whether depth can be observed from how the camera moved, and whether a reconstruction is to be believed. Pure functions.

Structure from motion fails silently: a camera that stands still or only turns still gives "poses". These tests are asked before
(does the camera move, does it do more than turn) and after (is the result plausible). Thresholds: docs/backends.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from stages.depth.motion.features import FeatureTracks
from stages.depth.sfm_settings import SfmSettings
from videolift.geometry import Float, focal_of_field_of_view, pinhole, unproject

GAP = 20
"""Frames between the two views compared, where the clip and its corners last that long."""
_PAIRS = 12
_MIN_SHARED = 60
MIN_POINTS = 300
MIN_GAIN = 2.0
"""A pure rotation must leave that many times the reconstruction's error; true translations leave 7 times and more."""
MIN_PARALLAX_PX = 8.0
"""With 0.5 px of flow error, less than 6.3 px over the whole path leaves every depth less certain than 8 % of itself."""


@dataclass(frozen=True)
class Motion:
    """How the image moves over ``gap`` frames.

    Attributes:
        gap: frames between the two views of a pair.
        motion_px: median displacement of the corners, the 80th percentile over pairs spread over the clip.
        rotation_px: median of what the best pure rotation leaves of it, the median over those pairs that move.
        focal_px: the focal length with which pure rotations explain most.
    """

    gap: int
    motion_px: float
    rotation_px: float
    focal_px: float

    def kind(self, settings: SfmSettings) -> Literal["static", "rotation", "moving"]:
        """What the camera does."""
        if self.motion_px < settings.static_px:
            return "static"
        return "rotation" if self.rotation_px < settings.rotation_px else "moving"


def measure_motion(tracks: FeatureTracks, cameras: Sequence[Float], settings: SfmSettings) -> Motion | None:
    """`Motion` over the longest gap, at most 20 frames, that most pairs of frames survive; None where no corners can be followed.

    Args:
        tracks: corners of the whole clip.
        cameras: the one known K (3, 3), or several to choose from: a long lens that turns looks like translation to a short one.
        settings: ``static_px`` tells which pairs move.
    """
    gap = min(GAP, len(tracks) - 1)
    while gap >= 1:
        # Pairs over the whole clip: a camera may stand still at its beginning.
        starts = np.unique(np.linspace(0, len(tracks) - 1 - gap, _PAIRS).astype(int))
        pairs = [pair for start in starts if len((pair := tracks.shared(int(start), int(start) + gap))[0]) >= _MIN_SHARED]
        if 2 * len(pairs) > len(starts):
            break
        gap //= 2
    else:
        return None
    displacement_px = np.array([np.median(np.linalg.norm(uv_b - uv_a, axis=1)) for uv_a, uv_b in pairs])
    # pairs in which the camera rests tell nothing of whether it turns or moves
    moving = [pair for pair, shift in zip(pairs, displacement_px, strict=True) if shift >= settings.static_px] or pairs
    left_px = [np.median([np.median(fit_rotation(*pair, K)[1]) for pair in moving]) for K in cameras]
    best = int(np.argmin(left_px))
    return Motion(gap, float(np.percentile(displacement_px, 80)), float(left_px[best]), float(cameras[best][0, 0]))


def plausible_cameras(width_px: int, height_px: int, settings: SfmSettings) -> list[Float]:
    """Eight cameras (3, 3) from the widest to the narrowest field of view that `refusal` lets pass, in equal ratios."""
    long_px = max(width_px, height_px)
    shortest, longest = (focal_of_field_of_view(fov, long_px) for fov in (settings.hfov_max_deg, settings.hfov_min_deg))
    return [pinhole(focal_px, width_px, height_px) for focal_px in np.geomspace(shortest, longest, 8)]


def fit_rotation(uv_a: ArrayLike, uv_b: ArrayLike, K: ArrayLike) -> tuple[Float, Float]:
    """Rotation ``R_b_a`` (3, 3) that best explains pixels (n, 2) seen in views a and b, and what it leaves, pixels (n).

    Weighted orthogonal Procrustes on unit rays with Cauchy weights of 1 px, 10 rounds, so that what moves by itself counts little.
    """
    at_depth_1 = (unproject(np.asarray(uv, np.float64), np.ones(len(np.asarray(uv))), K) for uv in (uv_a, uv_b))
    # Rays of unit length, so that corners at the border count no more than those in the middle.
    rays_a, rays_b = (points / np.linalg.norm(points, axis=1, keepdims=True) for points in at_depth_1)
    focal_px = float(np.asarray(K)[0, 0])
    weight = np.ones(len(rays_a))
    for _ in range(10):
        U, _, Vt = np.linalg.svd((rays_b * weight[:, None]).T @ rays_a)
        R_b_a = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt  # the sign keeps it from becoming a reflection
        residual_px = np.linalg.norm(rays_b - rays_a @ R_b_a.T, axis=1) * focal_px
        weight = 1.0 / (1.0 + residual_px**2)
    return R_b_a, residual_px


@dataclass(frozen=True)
class ReconstructionFigures:
    """What a reconstruction says of itself.

    Attributes:
        registered_share: keyframes with a pose, of all.
        reproj_px: mean reprojection error.
        fov_deg: field of view along the long side of the image.
        points: triangulated corners.
        parallax_px: what the extent of the camera's path shifts the image of a point at median depth.
    """

    registered_share: float
    reproj_px: float
    fov_deg: float
    points: int
    parallax_px: float


def refusal(figures: ReconstructionFigures, rotation_px: float, settings: SfmSettings, *, known_lens: bool = False) -> str | None:
    """Why a reconstruction is not to be believed, in words; None if it is.

    Args:
        figures: of the reconstruction.
        rotation_px: of the clip's `Motion`; a wrong focal length turns a turning camera into one that shifts.
        settings: thresholds.
        known_lens: the focal length was not solved for, so that its field of view tells nothing.
    """
    if figures.registered_share < settings.min_registered:
        return f"{figures.registered_share:.0%} of the keyframes found a place, at least {settings.min_registered:.0%} must"
    if figures.reproj_px > settings.max_reprojection_px:
        return f"reprojection error {figures.reproj_px:.2f} px, at most {settings.max_reprojection_px:g} is trusted"
    if not known_lens and not settings.hfov_min_deg <= figures.fov_deg <= settings.hfov_max_deg:
        return f"field of view {figures.fov_deg:.0f} degrees, plausible is {settings.hfov_min_deg:g} to {settings.hfov_max_deg:g}"
    if figures.points < MIN_POINTS:
        return f"{figures.points} points, at least {MIN_POINTS} are needed"
    # With a wrong focal length a camera that turns gets "poses" at 0.4 px (docs/backends.md).
    if rotation_px < MIN_GAIN * figures.reproj_px:
        return (
            f"a camera that only turns explains the images to {rotation_px:.2f} px, this one to {figures.reproj_px:.2f} px: no gain"
        )
    if figures.parallax_px < MIN_PARALLAX_PX:
        return f"the camera's path shifts the scene by {figures.parallax_px:.1f} px in all, at least {MIN_PARALLAX_PX:g} are needed"
    return None
