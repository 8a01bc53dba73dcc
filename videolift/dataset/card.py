"""The dataset card: README.md with the hub's YAML header, written from the index and what the caller knows of the run.

It answers what people ask of such data: units, frames, joint order, rates, crops, validity, licences, what was left out and why.
The same facts stand in ``dataset.json`` for programs.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from videolift.artifacts import JOINTS, MANO_JOINTS, SIDES
from videolift.dataset.quality import SCORES

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_TIERS = {
    "A": "sensor",
    "B": "learned from images",
    "C": "structure from motion; what moves has no depth",
    "D": "a prior, not a measurement",
    "none": "no depth",
}
_SCALES = {
    "metric": "metres",
    "hand": "metres by hand size, good to about 30 %",
    "assumed": "metres by an assumed distance",
    "arbitrary": "one unknown unit per video (median depth 1)",
    "none": "no lengths",
}
_COUNTED = {"fps": "frames per second", "size": "pixels of the shorter side", "window_length": "frames per window"}
_MAX_LISTED = 200


def render_card(index: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """Markdown of the card.

    Args:
        index: what ``dataset.json`` holds.
        card: free facts, every key optional: ``title``, ``description``, ``license`` (the hub's identifier), ``licences`` (rows of
            ``name``, ``licence``, ``of``), ``models`` (rows of ``name``, ``version``, ``weights``), ``settings`` (nested mapping).
    """
    facts = _Facts.of(index)
    sections = [
        _header(index, card),
        f"# {card.get('title', 'Hands at work')}\n\n{card.get('description', _DESCRIPTION)}",
        _contents(index, facts),
        _groups(index),
        _READING,
        _conventions(),
        _processing(facts),
        _quality(facts),
        _rows("Models and weights", card.get("models"), ("name", "version", "weights")),
        _rows("Licences of what made this data", card.get("licences"), ("name", "licence", "of")),
        _left_out(index, facts),
        _settings(card.get("settings")),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


@dataclass
class _Facts:
    """What the card counts over all files, in one look at each."""

    parts: Counter[str] = field(default_factory=Counter)
    values: dict[str, Counter[Any]] = field(default_factory=lambda: {name: Counter() for name in _COUNTED})
    interpolated: float | None = None
    backends: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: Counter[tuple[str, str]] = field(default_factory=Counter)
    quality: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in SCORES})
    missing: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, index: Mapping[str, Any]) -> _Facts:
        facts = cls()
        for file in index["files"]:
            facts._add(file, index["backends"])
        return facts

    def _add(self, file: Mapping[str, Any], backends: Sequence[Mapping[str, Any]]) -> None:
        self.parts.update(file["parts"])
        for name, counter in self.values.items():
            counter.update([file[name]] if file.get(name) is not None else [])
        if (share := file.get("hands_interpolated_share")) is not None:
            self.interpolated = max(share, self.interpolated or 0.0)
        for stage, done in file.get("lineage", {}).items():
            self.backends[stage, backends[done["backend"]].get("name", "?")] += 1
            if done.get("shrink", 1.0) != 1.0:
                self.notes[stage, f"worked on in smaller chunks for lack of memory ({done['shrink']:g})"] += 1
            self.notes.update((stage, check) for check in done.get("checks", ()))
        for name, value in file.get("quality", {}).items():
            if name in self.quality:
                self.quality[name].append(value)
        self.missing += [f"- `{file['video']}`: {part}: {why}" for part, why in sorted(file.get("missing", {}).items())]


_DESCRIPTION = (
    "Videos of hands at work, lifted to 3D: RGB, depth, camera, 3D point tracks for every window, hand poses, and normalization "
    "statistics. Made with videolift."
)

_READING = """## Reading

```python
from videolift.reader import open_dataset

dataset = open_dataset("path/to/this/folder", split="train")
sample = dataset[0]
```

Or with h5py alone (`import hdf5plugin` first): one HDF5 file per video. Take the list of files from `dataset.json`."""


def _header(index: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    count = index["totals"]["windows"] or index["totals"]["frames"]
    size = next((name for limit, name in _SIZES if count < limit), "n>1M")
    header = {
        "license": card.get("license", "other"),
        "task_categories": ["robotics"],
        "tags": ["video", "hands", "3d-point-tracks", "depth", "hdf5", "videolift"],
        "size_categories": [size],
    }
    return "---\n" + yaml.safe_dump(header, sort_keys=False).strip() + "\n---"


def _contents(index: Mapping[str, Any], facts: _Facts) -> str:
    totals = index["totals"]
    splits = ", ".join(f"{name} {len(videos)}" for name, videos in sorted(index["splits"].items())) or "none"
    lines = [
        f"{totals['videos']} videos, {totals['frames']} frames, {totals['windows']} windows, {totals['points']} tracked points, "
        f"{totals['bytes'] / 1e9:.3g} GB.",
        "Videos with " + (", ".join(f"{part}: {count}" for part, count in sorted(facts.parts.items())) or "RGB alone") + ".",
        f"Splits (by subject or source, so that nothing leaks): {splits}.",
    ]
    for name, what in _COUNTED.items():
        counts = ", ".join(f"{value:g} ({count} videos)" for value, count in sorted(facts.values[name].items())) or "none"
        lines.append(f"{what.capitalize()}: {counts}.")
    if facts.interpolated is not None:
        share = f"{facts.interpolated:.0%}"
        lines.append(f"Interpolated hands (flagged in `hands/interpolated`): at most {share} of a video's valid ones.")
    return "## What is in it\n\n" + "\n".join(f"- {line}" for line in lines)


def _groups(index: Mapping[str, Any]) -> str:
    rows = []
    for name, videos in index["groups"].items():
        tier, _, scale = name.partition("-")
        main = " (in normalization_stats.yaml)" if name == index["statistics_group"] else ""
        rows.append(f"| {name}{main} | {len(videos)} | {_TIERS[tier]} | {_SCALES[scale]} |")
    head = "| group | videos | depth | lengths |\n|---|---|---|---|\n"
    return "## Groups\n\nDepth of different worth is never mixed in one statistic.\n\n" + head + "\n".join(rows)


def _conventions() -> str:
    return f"""## Conventions

- Camera axes OpenCV: x right, y down, z forward. An integer pixel coordinate is a pixel's centre; `camera/intrinsics` belong to the
  stored image.
- `T_a_b` maps points of frame b to frame a. `camera/T_camera_world` are extrinsics. `tracks/pose9d` is camera k in camera 0 of its
  window: first two columns of the rotation, then the translation.
- `depth` is z, float16, 0 is invalid, not clipped; `depth_min_m` and `depth_max_m` are attributes.
- Tracks: (u, v, d) in the window's first image, u = (x + 0.5) / size, d = depth there; `displacement` is relative to step 0. Only
  points that stay measurable and in view for the whole window are kept.
- Hands: sides ({", ".join(SIDES)}); origin at the wrist; right hand fingers -x, back of the hand +y, thumb side +z; the left hand
  is the mirror in x. In camera coordinates of their own frame; `window_*` arrays in the window's first camera. NaN is invalid.
- Joint order: {", ".join(JOINTS)}.
- Order of `mano_pose`: {", ".join(MANO_JOINTS)}.
- `timestamps` are seconds in the source video."""


def _processing(facts: _Facts) -> str:
    if not facts.backends:
        return ""
    rows = [f"| {stage} | {name} | {count} |" for (stage, name), count in sorted(facts.backends.items())]
    text = "## How it was made\n\n| stage | backend | videos |\n|---|---|---|\n" + "\n".join(rows)
    listed = [f"- {stage}: {note} ({count} videos)" for (stage, note), count in sorted(facts.notes.items())]
    return text + ("\n\n" + "\n".join(listed[:_MAX_LISTED]) if listed else "")


def _quality(facts: _Facts) -> str:
    rows = []
    for name, score in SCORES.items():
        values = sorted(facts.quality[name])
        if values:
            side = ">" if score.above else "<"
            poor = sum(score.poor(value) for value in values)
            limit = f"{side} {score.threshold:g} {score.unit}"
            rows.append(f"| {name} | {score.definition} | {values[len(values) // 2]:.3g} | {limit}: {poor} of {len(values)} |")
    if not rows:
        return ""
    intro = "How well the arrays of a file agree with each other; they can be wrong together. Per file: dataset.json.\n\n"
    return "## Quality\n\n" + intro + "| score | what | median | worth a look |\n|---|---|---|---|\n" + "\n".join(rows)


def _rows(title: str, rows: Sequence[Mapping[str, Any]] | None, columns: Sequence[str]) -> str:
    if not rows:
        return ""
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    return f"## {title}\n\n" + head + "\n".join("| " + " | ".join(str(row.get(c, "")) for c in columns) + " |" for row in rows)


def _left_out(index: Mapping[str, Any], facts: _Facts) -> str:
    absent = [f"- `{video}`: {reason}" for video, reason in index["left_out"].items()]
    text = ""
    for title, lines in (("## Left out", absent), ("## Kept without a part", facts.missing)):
        if lines:
            more = [f"- and {len(lines) - _MAX_LISTED} more, see dataset.json"] if len(lines) > _MAX_LISTED else []
            text += ("\n\n" if text else "") + title + "\n\n" + "\n".join(lines[:_MAX_LISTED] + more)
    return text


def _settings(settings: Mapping[str, Any] | None) -> str:
    if not settings:
        return ""
    return "## Settings\n\n```yaml\n" + yaml.safe_dump(dict(settings), sort_keys=True, allow_unicode=True).strip() + "\n```"
