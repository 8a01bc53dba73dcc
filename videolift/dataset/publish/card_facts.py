"""What the card counts over all videos of an index, in one pass over its rows."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from videolift.dataset.quality import SCORES

COUNTED = {"fps": "frames per second", "size": "pixels of the shorter side", "window_length": "frames per window"}
MAX_CARD_LINES = 200
"""Lines of each list on the card."""
_CONTENT = {"tracks": "points", "hands": "hands_valid_frames"}
"""Parts that may be there and empty, and the column that counts what is in them."""
_COLUMNS = (
    "v.video",
    "parts",
    *_CONTENT.values(),
    "hands_interpolated_share",
    "intrinsics",
    "lineage",
    "missing",
    *COUNTED,
    *(f"quality_{name}" for name in SCORES),
)
FACTS_QUERY = f"SELECT {', '.join(_COLUMNS)} FROM video v JOIN detail d USING (video) ORDER BY v.video"
"""The rows that `CardFacts.of` takes."""


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
    def of(cls, rows: Iterable[tuple[Any, ...]]) -> CardFacts:
        """Counts the rows of `FACTS_QUERY`."""
        facts = cls()
        for values in rows:
            row = dict(zip(_COLUMNS, values, strict=True))
            parts = row["parts"].split(",") if row["parts"] else []
            facts.parts.update(part for part in parts if part not in _CONTENT or row[_CONTENT[part]] != 0)
            for name, counter in facts.values.items():
                if row[name] is not None:
                    counter[row[name]] += 1
            # The worst video: a mean would hide one whose hands are made up.
            if (share := row["hands_interpolated_share"]) is not None:
                facts.interpolated = max(share, facts.interpolated or 0.0)
            if row["intrinsics"]:
                facts.intrinsics[row["intrinsics"]] += 1
            made_by, notes = _backends_and_notes(row["lineage"] or "{}")
            for backend in made_by:
                facts.backends[backend] += 1
            for note in notes:
                facts.notes[note] += 1
            for name, scores in facts.quality.items():
                if (value := row[f"quality_{name}"]) is not None:
                    scores.append(value)
            absent = json.loads(row["missing"]) if row["missing"] else {}
            facts.missing_count += len(absent)
            # Counted to the end, but not kept: of ten million videos the lines would fill the memory, and the card lists a few.
            if len(facts.missing) < MAX_CARD_LINES:
                facts.missing += [f"- `{row['v.video']}`: {part}: {why}" for part, why in sorted(absent.items())]
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
