"""Measured depth of the hand itself: what of a depth map is its surface, and how far it is.

Beside a finger the table shines through, a held thing lies in front, and sensors leave holes. So the palm's distance is one that
many of its pixels agree on, and a joint's is that of the nearest surface around it that belongs to the hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.hands.palm import Palm
from stages.hands.wrist import WristFit, hand_size_px
from videolift.artifacts import PALM_JOINTS
from videolift.geometry import Float, transform, unproject

SKIN_TO_JOINT_M = 0.010
"""A camera sees the skin; joints lie about this far behind it."""
HAND_REACH_M = 0.10
"""Depth this far from the palm's belongs to something else: the table, the held object."""
_SAME_SURFACE = 0.03
"""Pixels of one palm agree within this share of its distance."""
_NEAREST_SHARE = 0.5
"""Of two surfaces the nearer one is the hand, if it has at least this share of the other's pixels."""
_SIZE_LIMIT = 0.6
"""Natural logarithm: a palm measured smaller or larger than expected by more than this is not the palm."""
_JOINT_REACH_M = 0.04
_LAYER_M = 0.02
_LAYER_SHARE = 0.25
"""The nearest depths within `_LAYER_M` of each other are a surface if they are this share of a joint's pixels."""
_PATCH = 0.04
"""Radius around a joint, as a share of the hand's size; at least `PATCH_PX`."""
# To either side: 5 x 5 pixels.
PATCH_PX = 2
_MIN_PIXELS = 20


@dataclass(frozen=True)
class PalmDepth:
    """The palm's distance as measured.

    Attributes:
        ratio: measured distance over that of the fit that was asked about.
        share: share of the palm's pixels that agree on it, those without depth included.
        z_m: (6) distances of the palm's joints; NaN where their own surface does not show.
    """

    ratio: float
    share: float
    z_m: Float


def palm_depth(
    fit: WristFit, keypoints_px: ArrayLike, depth_m: NDArray[np.floating], K: ArrayLike, hand_palm: Palm
) -> PalmDepth | None:
    """What one frame's depth (H, W) says of a fit's distance; None where it shows no palm.

    Each pixel inside the palm's outline is compared with the plane of the fitted palm there; the densest agreement counts, not
    the median, which a held object or the table can take.
    """
    uv, camera = np.asarray(keypoints_px, np.float64), np.asarray(K, np.float64)
    height, width = depth_m.shape
    outline_px = uv[list(PALM_JOINTS)]
    low = np.clip(np.floor(outline_px.min(0)), 0, [width, height]).astype(int)
    high = np.clip(np.ceil(outline_px.max(0)) + 1, 0, [width, height]).astype(int)
    inside = np.zeros((max(high[1] - low[1], 0), max(high[0] - low[0], 0)), np.uint8)
    # An outline wholly outside of the image leaves no pixel.
    if inside.size:
        cv2.fillConvexPoly(inside, cv2.convexHull(np.rint(outline_px - low).astype(np.int32)), 1)
    rows, columns = np.nonzero(inside)
    pixels = np.stack([columns + low[0], rows + low[1]], -1)
    at_px, z = pixels.astype(np.float64), depth_m[pixels[:, 1], pixels[:, 0]].astype(np.float64)
    measured = np.isfinite(z) & (z > 0)
    if measured.sum() < _MIN_PIXELS:
        return None
    palm = transform(fit.T_camera_wrist, hand_palm.points_m(fit.palm_size))
    # The plane through the six points, at most 2 cm nearer or farther than they are: seen edge on it would reach to infinity.
    centre = palm.mean(0)
    normal = np.linalg.svd(palm - centre)[2][2]
    slope = unproject(at_px[measured], np.ones(int(measured.sum())), camera) @ normal
    with np.errstate(divide="ignore", invalid="ignore"):
        on_plane = (centre @ normal) / slope
    on_plane = np.clip(np.nan_to_num(on_plane, nan=centre[2]), palm[:, 2].min() - 0.02, palm[:, 2].max() + 0.02)
    ratios = np.sort(np.log((z[measured] + SKIN_TO_JOINT_M) / on_plane))
    # For each ratio how many lie within the width above it: the densest stretch of a sorted list.
    ends = np.searchsorted(ratios, ratios + 2 * _SAME_SURFACE)
    agreeing = ends - np.arange(len(ratios))
    nearest = int(np.argmax(agreeing >= _NEAREST_SHARE * agreeing.max()))
    first = nearest + int(np.argmax(agreeing[nearest : ends[nearest]]))
    agreed = float(np.median(ratios[first : ends[first]]))
    # A table behind the fingers agrees with itself as well as a palm does.
    if abs(agreed) > _SIZE_LIMIT:
        return None
    joints_z = surface_z(depth_m, uv[list(PALM_JOINTS)], np.exp(agreed) * palm[:, 2], _JOINT_REACH_M, float(hand_size_px(uv)))
    return PalmDepth(float(np.exp(agreed)), float((ends[first] - first) / len(z)), joints_z)


def surface_z(depth_m: NDArray[np.floating], uv_px: ArrayLike, around_m: ArrayLike, reach_m: float, size_px: float) -> Float:
    """Distance (n) of the joints at pixels (n, 2) of one frame (H, W): that of the nearest surface there, skin to joint added.

    Args:
        depth_m: metres, 0 invalid.
        uv_px: (n, 2); NaN is returned for those outside the image.
        around_m: (n) or a number, where the joints are expected.
        reach_m: a surface farther from there is something else.
        size_px: the hand's.
    """
    pixels = np.asarray(uv_px, np.float64)
    expected = np.broadcast_to(np.asarray(around_m, np.float64), len(pixels))
    radius = max(PATCH_PX, round(_PATCH * size_px))
    out = np.full(len(pixels), np.nan)
    for i, uv in enumerate(pixels):
        z = _valid_around(depth_m, uv, radius) + SKIN_TO_JOINT_M
        near = np.sort(z[np.abs(z - expected[i]) <= reach_m])
        layers = np.searchsorted(near, near + _LAYER_M) - np.arange(len(near))
        # A few near pixels are noise or a held object's edge; a joint's own surface has more.
        thick = np.flatnonzero(layers >= max(3, _LAYER_SHARE * len(near)))
        if len(thick):
            out[i] = np.median(near[thick[0] : thick[0] + layers[thick[0]]])
    return out


def joints_on_depth(keypoints_px: ArrayLike, depth_m: NDArray[np.floating], K: ArrayLike, palm_z_m: float) -> Float:
    """Joints (21, 3) in the camera, in metres, where depth within 10 cm of the palm's shows them; NaN elsewhere."""
    uv = np.asarray(keypoints_px, np.float64)
    return unproject(uv, surface_z(depth_m, uv, palm_z_m, HAND_REACH_M, float(hand_size_px(uv))), K)


def depth_under(depth_m: NDArray[np.floating], uv_px: ArrayLike) -> Float:
    """Median valid depth (n) around pixels (n, 2) of one frame (H, W); NaN outside the image or without valid depth."""
    pixels = np.asarray(uv_px, np.float64)
    patches = [_valid_around(depth_m, uv, PATCH_PX) for uv in pixels]
    return np.array([np.median(patch) if patch.size else np.nan for patch in patches], np.float64)


def _valid_around(depth_m: NDArray[np.floating], uv_px: Float, radius: int) -> Float:
    """Valid depth of the pixels around one (2); none for a pixel outside the image."""
    (height, width), (u, v) = depth_m.shape, uv_px
    if not (-0.5 <= u < width - 0.5 and -0.5 <= v < height - 0.5):
        return np.zeros(0)  # a keypoint outside has no pixel; clamping it would move the hand by centimetres
    column, row = int(np.rint(u)), int(np.rint(v))
    patch = depth_m[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1]
    return np.asarray(patch[np.isfinite(patch) & (patch > 0)], np.float64)
