"""Work on a long video segment by segment: what a killed attempt had finished is read again, not computed again.

`resumable` walks over a video and keeps what each segment gave; `kept` does the same for one thing. Both keep named arrays beside
the artifact that is being written, until it is published. `in_calls` hands the frames of a segment to a model a few at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.artifacts import ArtifactWriter

SavedArrays = dict[str, NDArray[Any]]
CALL_FRAMES = 16
"""Frames sent at once; a model's process and the pipe to it hold no more."""
Bounds = tuple[int, int]
"""First row of a segment, and the one after its last; rows are frames or windows."""


def kept(out: ArtifactWriter, name: str, compute: Callable[[], Mapping[str, ArrayLike]]) -> SavedArrays:
    """What ``compute`` returns, saved as ``name``; read again where a killed attempt at ``out`` had saved it."""
    saved = out.load_part(name)
    if saved is not None:
        return saved
    computed = {key: np.asarray(array) for key, array in compute().items()}
    out.save_part(name, **computed)
    return computed


def even_segments(rows: int, length: float) -> Callable[[int], Iterable[Bounds]]:
    """Segments of about ``length`` rows that cover what is left of ``rows`` after those that are done."""
    # A segment of no rows would never end.
    step = max(1, round(length))
    return lambda done: [(start, min(start + step, rows)) for start in range(done, rows, step)]


def resumable(
    out: ArtifactWriter,
    name: str,
    remaining: Callable[[int], Iterable[Bounds]],
    work: Callable[[int, int], Mapping[str, ArrayLike]],
    *,
    commits: bool = False,
) -> Iterator[SavedArrays]:
    """What ``work(start, end)`` returns for every segment, in order: first those of a killed attempt, then those it did not reach.

    Args:
        out: the artifact being written.
        name: of this walk; letters, unique among those of one artifact.
        remaining: bounds of the segments that are left after that many rows. They may change between attempts.
        work: does one segment. Its arrays are read again after a kill, so they are small, or needed later.
        commits: ``work`` appends the segment's rows to ``out``; they are committed together with the arrays. The last segment is
            left to `ArtifactWriter.publish`.
    """
    segments: list[Bounds] = []
    pattern = re.compile(rf"{re.escape(name)}-(\d+)-(\d+)")
    for saved_part in out.saved_parts():
        if match := pattern.fullmatch(saved_part):
            start, end = int(match[1]), int(match[2])
            # a part behind a gap, or of rows that were not committed, is done again: its bounds may be others this time
            if start == (segments[-1][1] if segments else 0) and (not commits or end <= out.committed):
                segments.append((start, end))
            else:
                out.drop_part(saved_part)
    if commits and out.committed != (segments[-1][1] if segments else 0):
        out.restart()  # rows without their arrays: what was counted over them is not known
        segments = []
    for start, end in segments:
        saved = out.load_part(_part(name, start, end))
        assert saved is not None
        yield saved
    todo = list(remaining(segments[-1][1] if segments else 0))
    # A list: whether a segment is the last one is asked below.
    for start, end in todo:
        part = {key: np.asarray(array) for key, array in work(start, end).items()}
        # Arrays first: those of rows that a kill left uncommitted are thrown away; rows without arrays say too little.
        out.save_part(_part(name, start, end), **part)
        if commits and end != todo[-1][1]:
            out.commit()
        yield part


def _part(name: str, start: int, end: int) -> str:
    return f"{name}-{start:09d}-{end:09d}"


def in_calls(start: int, end: int, call_frames: int, look: Callable[[int, int], Mapping[str, NDArray[Any]]]) -> SavedArrays:
    """What ``look(first, last)`` returns for the frames from ``start`` to before ``end``, ``call_frames`` of them at a time.

    Arrays of the same name are joined along their first axis; ``frame``, counted from the call's first, counts from the clip's.
    """
    parts = []
    for first in range(start, end, call_frames):
        part = look(first, min(first + call_frames, end))
        parts.append({**part, "frame": part["frame"] + first})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
