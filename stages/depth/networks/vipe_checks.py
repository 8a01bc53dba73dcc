"""What ViPE returns without complaint but is known to be wrong: a camera that stood still, a field of view, depth without relief.

Figures of the stretches in, `BadInput` with what to set instead out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.depth.networks.vipe_settings import VipeSettings
from videolift.errors import BadInput
from videolift.geometry import Float, field_of_view_deg, rotation_angle

STILL_SHARE, STILL_DEG = 0.01, 1.0
"""A camera that moved less than this share of the depth and turned less than this stood still."""
_EVERY = 10
_INSTEAD = "For this video set, under `overrides`, depth: {backend: moge}"


def stretch_figures(depth: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median valid depth, and its standard deviation over that median, of every tenth frame of depth (n, H, W) that has any."""
    valid = [z[z > 0] for z in depth[::_EVERY]]
    figures = np.array([(np.median(z), z.std() / np.median(z)) for z in valid if len(z)]).reshape(-1, 2)
    return figures[:, 0], figures[:, 1]


def check_field_of_view(K: Float, width_px: int, settings: VipeSettings) -> None:
    """Raises `BadInput` where the horizontal field of view is outside of what the settings call plausible."""
    hfov_deg = field_of_view_deg(K[0, 0], width_px)
    if not settings.hfov_min_deg <= hfov_deg <= settings.hfov_max_deg:
        plausible = f"{settings.hfov_min_deg:g} to {settings.hfov_max_deg:g}"
        text = f"ViPE estimates a field of view of {hfov_deg:.0f} degrees, plausible is {plausible}"
        raise BadInput("field_of_view", text, f"Set depth.vipe.hfov_deg, or name a calibration in the CSV. {_INSTEAD}.")


def check_motion(T_world_camera: Float, median_depth: float) -> None:
    """Raises `BadInput` where the camera stood still: its focal length could not be observed, so depth and tracks would be off."""
    centres, R = T_world_camera[:, :3, 3], T_world_camera[:, :3, :3]
    # From the median place, so that one lost frame does not make a tripod move.
    moved = float(np.linalg.norm(centres - np.median(centres, axis=0), axis=1).max()) / median_depth
    turned_deg = float(np.degrees(rotation_angle(R, R[len(R) // 2]).max()))
    if moved < STILL_SHARE and turned_deg < STILL_DEG:
        little = f"moved {moved:.1%} of the depth, turned {turned_deg:.1f} degrees"
        text = f"the camera stood still ({little}): ViPE cannot find its focal length"
        raise BadInput("static_camera", text, f"{_INSTEAD}, or depth: {{vipe: {{hfov_deg: ...}}}} if you know it.")


def check_relief(relief: Float, settings: VipeSettings) -> None:
    """Raises `BadInput` where depth is missing, or as flat as a wall. Relative, so that close-ups of a table pass.

    Args:
        relief: per frame looked at, standard deviation over median.
        settings: what is too flat.
    """
    if not len(relief):
        raise BadInput("no_depth", "ViPE returned no valid depth in any frame", f"{_INSTEAD}.")
    if np.median(relief) < settings.min_relative_relief:
        text = f"depth varies by {np.median(relief):.1%} of its median, less than {settings.min_relative_relief:.1%}"
        raise BadInput("flat_depth", text, f"Lower depth.vipe.min_relative_relief if the scene is a wall. {_INSTEAD}.")
