"""Samples kept in memory up to a stated number of bytes, per process."""

from __future__ import annotations

from typing import Any

import numpy as np

from videolift.reader.frames import Sample


class RamCache:
    """Keeps the first samples that fit and never drops one: random access gains nothing from replacing them.

    Args:
        limit_bytes: most bytes of arrays held; 0 keeps nothing. Every worker process has its own.
    """

    def __init__(self, limit_bytes: int = 0) -> None:
        self.limit_bytes, self.used_bytes = limit_bytes, 0
        self._samples: dict[int, Sample] = {}

    def get(self, index: int) -> Sample | None:
        """The kept sample, not to be changed; None where there is none."""
        return self._samples.get(index)

    def put(self, index: int, sample: Sample) -> None:
        """Keeps a sample if it fits."""
        size = sum(value.nbytes for value in sample.values() if isinstance(value, np.ndarray))
        if index not in self._samples and self.used_bytes + size <= self.limit_bytes:
            self._samples[index] = sample
            self.used_bytes += size

    def __len__(self) -> int:
        return len(self._samples)

    def __getstate__(self) -> dict[str, Any]:
        # The limit alone: a worker would be sent gigabytes, and soon holds the samples that it reads itself.
        return {"limit_bytes": self.limit_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
