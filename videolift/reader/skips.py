"""Samples that cannot be read: raised, or left out and named; never replaced by something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from videolift.errors import CorruptFile
from videolift.reader.draws import Draw, Source
from videolift.reader.frames import Sample

OnError = Literal["raise", "skip"]


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be read."""

    draw: Draw
    reason: str


def open_or_skip(source: Source, draw: Draw, on_error: OnError) -> Sample | Skipped:
    """The sample of a draw; with ``skip``, what a corrupt or missing file makes of it.

    Raises:
        CorruptFile: its file cannot be read, and ``on_error`` is ``raise``.
    """
    try:
        return source.open(draw.index, epoch=draw.epoch)
    # Nothing else is skipped: an IndexError or a ConfigError is a mistake of the caller, and would go unnoticed.
    except CorruptFile as error:
        if on_error == "raise":
            raise
        return Skipped(draw, str(error))
