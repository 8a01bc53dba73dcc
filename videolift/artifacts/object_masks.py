"""ObjectMasks: which object every pixel of a clip belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts.base import Artifact, ArtifactWriter
from videolift.artifacts.fields import ZSTD, Field

# A chunk per frame: masks are read one by one, in any order.
_FIELDS = (Field("instance", "u1", (-1, None, None), chunk=1, codec=ZSTD),)


class ObjectMasksWriter(ArtifactWriter):
    """Writes `ObjectMasks`: ``append(instance=...)`` frame after frame, then ``describe(backend=..., objects=...)`` once."""

    FORMAT, VERSION, FIELDS, ROWS = "videolift.masks", 1, _FIELDS, "instance"


class ObjectMasks(Artifact):
    """Instance ids u8 (T, H, W), 0 for none; index like an array: ``masks[3]`` (H, W), ``masks[10:20]`` (n, H, W)."""

    FORMAT, VERSION, FIELDS = "videolift.masks", 1, _FIELDS

    def __len__(self) -> int:
        return int(self.array("instance").shape[0])

    @property
    def objects(self) -> list[dict[str, Any]]:
        """``id`` and ``given`` (click, box, mask) of every object that was followed; empty where the row names none."""
        return list(self.attrs["objects"])

    def __getitem__(self, frames: int | slice) -> NDArray[np.uint8]:
        if isinstance(frames, (int, np.integer)):
            frames = range(len(self))[frames]
        return self.read("instance", frames)
