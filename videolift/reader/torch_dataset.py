"""`WindowDataset` for torch's DataLoader. The only module of videolift's library that imports torch, and only when it is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from videolift.reader.normalization import Normalization
from videolift.reader.samples import WindowDataset


class TorchWindows(Dataset[dict[str, Any]]):
    """Samples of ``windows`` as tensors, normalized where ``normalization`` is given; works with any number of workers.

    Set `Selection.points`, so that samples have equal shapes and can be batched.
    """

    def __init__(self, windows: WindowDataset, normalization: Normalization | None = None) -> None:
        self.windows, self.normalization = windows, normalization

    def __len__(self) -> int:
        return len(self.windows)

    def set_epoch(self, epoch: int) -> None:
        """See `WindowDataset.set_epoch`."""
        self.windows.set_epoch(epoch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.windows[index]
        if self.normalization is not None:
            sample = self.normalization.apply(sample)
        return {key: torch.from_numpy(_own(value)) if isinstance(value, np.ndarray) else value for key, value in sample.items()}


def _own(array: np.ndarray) -> np.ndarray:
    """Contiguous and writable, as torch wants it; arrays kept by an open file must not be shared."""
    return np.array(array) if not array.flags.writeable or array.base is not None else np.ascontiguousarray(array)
