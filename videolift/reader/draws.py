"""What a loader asks for: one sample of one epoch. The epoch travels with the index: no worker is left behind in an old one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from videolift.reader.frames import Sample


@dataclass(frozen=True)
class Draw:
    """The sample ``index`` of a source, as it is drawn in ``epoch``."""

    index: int
    epoch: int = 0


class Source(Protocol):
    """Whatever gives samples by index: datasets of this package and the adapters to others' files."""

    def __len__(self) -> int: ...

    def open(self, index: int, *, epoch: int = 0) -> Sample:
        """Sample ``index``, with what is drawn anew in every epoch drawn for this one.

        Raises:
            IndexError: no such sample.
            CorruptFile: the file behind it cannot be read, or holds what cannot be.
        """
        ...
