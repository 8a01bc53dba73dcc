"""Encoded images to arrays, by Pillow, which only the adapters of such images need."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.errors import ConfigError, CorruptFile


def decode_image(content: bytes | NDArray[Any], what: str, size_px: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """RGB u8 (3, H, W) of an encoded image, resized to (W, H) where given.

    Args:
        content: JPEG, PNG or whatever Pillow reads, as bytes or as an array of them; or pixels u8 (H, W, 3).
        what: names the image in errors.
        size_px: (W, H) to resize to.

    Raises:
        CorruptFile: not a whole image.
        ConfigError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError(f"{what} is an encoded image, which needs Pillow: pip install pillow") from error
    pixels = content if isinstance(content, np.ndarray) and content.ndim == 3 else None
    try:
        with Image.fromarray(pixels) if pixels is not None else Image.open(io.BytesIO(bytes(content))) as image:
            # Grey, palettes and transparency too become three channels: a batch needs one shape.
            rgb: Any = image.convert("RGB")
            rgb = rgb if size_px is None else rgb.resize(size_px, Image.Resampling.BILINEAR)
            return np.ascontiguousarray(np.asarray(rgb, np.uint8).transpose(2, 0, 1))
    # Pillow raises a SyntaxError for a broken PNG, a TypeError for pixels that are no bytes.
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        raise CorruptFile(f"{what} is not a whole image: {error}") from error
