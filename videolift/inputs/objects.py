"""Objects that a user points at in a video's first frame: the cell ``objects`` of the table, as prompts in the clip's pixels.

A cell names objects separated by ``;``, each by whole numbers in pixels of the upright video: ``x y`` is a click on it, ``left top
right bottom`` a box around it. Their ids are 1, 2, 3 in that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from videolift.geometry import Float

if TYPE_CHECKING:  # it imports OpenCV, which listing videos does not need
    from videolift.inputs.framing import Framing

MAX_OBJECTS = 255
"""Ids are one byte, and 0 is none."""


@dataclass(frozen=True)
class ObjectPrompt:
    """One object.

    Attributes:
        id: 1 to 255.
        kind: what the numbers mean.
        uv_px: f64; of a click (1, 2), of a box its left top and right bottom corner (2, 2).
    """

    id: int
    kind: Literal["click", "box"]
    uv_px: Float

    def within(self, framing: Framing) -> ObjectPrompt | None:
        """The same in the clip's pixels, a box cut at the clip's border; None where the clip shows nothing of it."""
        width, height = framing.clip_px
        if self.kind == "click":
            uv_px = framing.map_pixels(self.uv_px)
            inside = bool(((uv_px >= -0.5) & (uv_px < (width - 0.5, height - 0.5))).all())
            return ObjectPrompt(self.id, self.kind, uv_px) if inside else None
        # All four corners: after lens correction a box is no longer a box.
        (left, top), (right, bottom) = self.uv_px
        corners = framing.map_pixels([[left, top], [right, top], [left, bottom], [right, bottom]])
        low, high = np.clip(corners.min(0), 0, (width - 1, height - 1)), np.clip(corners.max(0), 0, (width - 1, height - 1))
        return ObjectPrompt(self.id, self.kind, np.stack([low, high])) if (high - low >= 1).all() else None


def parse_objects(text: str) -> tuple[ObjectPrompt, ...]:
    """The objects that a cell names; none where it is empty.

    Raises:
        ValueError: it names something else; says what is allowed.
    """
    prompts: list[ObjectPrompt] = []
    for part in text.split(";") if text.strip() else ():
        words = part.split()
        if len(words) not in (2, 4) or not all(word.isascii() and word.isdigit() for word in words):
            raise ValueError(
                f"names {part.strip()!r}: an object is `x y` (a click) or `left top right bottom` (a box), pixels of the upright"
                " video; objects are separated by ;"
            )
        uv_px = np.array(words, np.float64).reshape(-1, 2)
        if len(uv_px) == 2 and not (uv_px[0] < uv_px[1]).all():
            raise ValueError(f"names the box {part.strip()!r}: left must be below right, and top below bottom")
        prompts.append(ObjectPrompt(len(prompts) + 1, "click" if len(uv_px) == 1 else "box", uv_px))
    if len(prompts) > MAX_OBJECTS:
        raise ValueError(f"names {len(prompts)} objects, at most {MAX_OBJECTS}")
    return tuple(prompts)
