"""Dense optical flow and images sampled between pixels, by OpenCV. What rooms that follow motion have in common."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

FlowImage = NDArray[np.float32]
"""Per pixel of one image how far it moves to another, (H, W, 2) pixels, x then y."""
NO_START = np.empty(0, np.float32)
"""For `cv2.DISOpticalFlow.calc`: begin with no flow."""
_REMAP_COLUMNS = 1024
"""Points are sampled as an image this wide: remap takes no dimension above 32,767."""


def dis_flow(*, finest_scale: int = 1, descent: int = 25, refinement: int = 5, patch_stride: int = 3) -> cv2.DISOpticalFlow:
    """DIS flow (Kroeger et al. 2016); what is not given is OpenCV's medium preset.

    Args:
        finest_scale: flow is computed at 1 / 2**finest_scale of the image's size and scaled up.
        descent: gradient descent iterations per patch.
        refinement: variational iterations per scale.
        patch_stride: pixels between patches of 8 x 8.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(finest_scale)
    dis.setGradientDescentIterations(descent)
    dis.setVariationalRefinementIterations(refinement)
    dis.setPatchStride(patch_stride)
    return dis


def sample_bilinear(image: NDArray[np.float32], uv_px: ArrayLike) -> NDArray[np.float32]:
    """``image`` f32 (h, w, c) at points (..., 2), bilinear, the border repeated outside: (..., c)."""
    uv = np.asarray(uv_px, np.float32)
    points = uv.reshape(-1, 2)
    if not len(points):
        return np.zeros((*uv.shape[:-1], image.shape[2]), np.float32)
    # Padding is sampled too and cut off at the end: whole rows keep the picture rectangular.
    padded = np.zeros((-(-len(points) // _REMAP_COLUMNS) * _REMAP_COLUMNS, 2), np.float32)
    padded[: len(points)] = points
    maps = padded.reshape(-1, _REMAP_COLUMNS, 2)
    values = cv2.remap(image, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(values, np.float32).reshape(len(padded), -1)[: len(points)].reshape(*uv.shape[:-1], -1)
