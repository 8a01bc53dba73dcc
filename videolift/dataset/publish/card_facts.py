"""What the card counts over all videos of an index, in few passes over its rows."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

from videolift.dataset.quality import SCORES

COUNTED = {"fps": "frames per second", "size": "pixels of the shorter side", "window_length": "frames per window"}
MAX_CARD_LINES = 200
"""Lines of each list on the card."""
_CONTENT = {"tracks": "points", "hands": "hands_valid_frames"}
"""Parts that may be there and empty, and the column that counts what is in them."""
_ROWS_AT_ONCE = 1000


@dataclass
class CardFacts:
    """Counts over all videos.

    Attributes:
        parts: videos that have something of each part: one in which no hand was found does not count.
        values: of `COUNTED`, value to number of videos.
        interpolated: the largest share of interpolated hands in a video; None without hands.
        intrinsics: how K is known to number of videos.
        backends: (stage, backend's id) to number of videos.
        notes: (stage, note) to number of videos.
        quality: values of every score.
        missing: the first `MAX_CARD_LINES` parts that a video is without, as lines; ``missing_count`` is how many there are.
    """

    parts: Counter[str] = field(default_factory=Counter)
    values: dict[str, Counter[float]] = field(default_factory=lambda: {name: Counter() for name in COUNTED})
    interpolated: float | None = None
    intrinsics: Counter[str] = field(default_factory=Counter)
    backends: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: Counter[tuple[str, str]] = field(default_factory=Counter)
    quality: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in SCORES})
    missing: list[str] = field(default_factory=list)
    missing_count: int = 0

    @classmethod
    def of(cls, select: Callable[[str], Iterator[tuple[Any, ...]]]) -> CardFacts:
        """Counts what is in an index.

        Args:
            select: answers queries to it.
        """
        facts = cls()
        there = ", ".join(f"ifnull({column}, 1) <> 0" for column in _CONTENT.values())
        for held, *filled, count in select(f"SELECT parts, {there}, count(*) FROM video GROUP BY parts, {there}"):
            empty = {part for part, is_filled in zip(_CONTENT, filled, strict=True) if not is_filled}
            facts.parts.update({part: count for part in (held.split(",") if held else ()) if part not in empty})
        for name, counter in facts.values.items():
            counter.update(dict(select(f"SELECT {name}, count(*) FROM video WHERE {name} IS NOT NULL GROUP BY {name}")))
        facts.intrinsics.update(dict(select("SELECT intrinsics, count(*) FROM video WHERE intrinsics <> '' GROUP BY intrinsics")))
        # The worst video: a mean would hide one whose hands are made up.
        ((facts.interpolated,),) = select("SELECT max(hands_interpolated_share) FROM video")
        lineages = select("SELECT lineage FROM detail WHERE lineage IS NOT NULL")
        while batch := list(islice(lineages, _ROWS_AT_ONCE)):
            for (lineage,), count in Counter(batch).items():
                made_by, notes = _backends_and_notes(lineage)
                facts.backends.update(dict.fromkeys(made_by, count))
                for note in notes:
                    facts.notes[note] += count
        rows = select(f"SELECT {', '.join(f'quality_{name}' for name in SCORES)} FROM video")
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            for scores, column in zip(facts.quality.values(), zip(*batch, strict=True), strict=True):
                scores.extend(value for value in column if value is not None)
        for video, missing in select("SELECT video, missing FROM detail WHERE missing <> '{}' ORDER BY video"):
            absent = json.loads(missing)
            facts.missing_count += len(absent)
            # Counted to the end, but not kept: of ten million videos the lines would fill the memory, and the card lists a few.
            if len(facts.missing) < MAX_CARD_LINES:
                facts.missing += [f"- `{video}`: {part}: {why}" for part, why in sorted(absent.items())]
        return facts


# Most videos have one lineage: of a hundred thousand, parsing each takes a second.
@lru_cache(maxsize=256)
def _backends_and_notes(lineage: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What a lineage, as the index holds it, adds to `CardFacts.backends` and `CardFacts.notes`."""
    backends, notes = [], []
    for stage, done in json.loads(lineage).items():
        backends.append((stage, done["backend"]))
        if done.get("shrink", 1.0) != 1.0:
            notes.append((stage, f"worked on in smaller chunks for lack of memory ({done['shrink']:g})"))
        notes += [(stage, check) for check in done.get("checks", ())]
    return backends, notes
