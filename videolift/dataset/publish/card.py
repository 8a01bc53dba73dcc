"""The dataset card: README.md with the hub's YAML header, written from the index and what the caller knows of the run.

It answers what people ask of such data: units, frames, joint order, rates, crops, validity, licences, what was left out and why.
The same facts stand in ``dataset.json`` and ``index.sqlite`` for programs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from videolift.artifacts import JOINTS, MANO_JOINTS, SIDES
from videolift.dataset.publish.card_facts import COUNTED, MAX_CARD_LINES, CardFacts
from videolift.dataset.quality import SCORES
from videolift.dataset.statistics.groups import GroupParts, group_rank

# The hub's own names of size categories.
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
_INTRINSICS = {
    "given": "calibrated by who recorded it",
    "named": "a known camera's nominal values",
    "estimated": "solved from the videos",
    "assumed": "a guess: distances of hands hang on it",
}


def render_card(summary: Mapping[str, Any], facts: CardFacts, left_out: Mapping[str, str], card: Mapping[str, Any]) -> str:
    """Markdown of the card.

    Args:
        summary: what ``dataset.json`` holds.
        facts: counts over all videos.
        left_out: videos without a packaged file, with the reason; the first `MAX_CARD_LINES` will do.
        card: free facts, every key optional: ``title``, ``description``, ``license`` (the hub's identifier), ``licences`` (rows of
            ``name``, ``licence``, ``of``), ``models`` (rows of ``name``, ``version``, ``weights``), ``settings`` (nested mapping).
    """
    # Windows are what a trainer draws, so they are the dataset's size for the hub; without depth there are frames alone.
    count = summary["totals"]["windows"] or summary["totals"]["frames"]
    header = {
        "license": card.get("license", "other"),
        "task_categories": ["robotics"],
        "tags": ["video", "hands", "3d-point-tracks", "depth", "hdf5", "videolift"],
        "size_categories": [next((name for limit, name in _SIZES if count < limit), "n>1M")],
    }
    sections = [
        # The hub reads licence, tags and size from this header and from nowhere else.
        "---\n" + yaml.safe_dump(header, sort_keys=False).strip() + "\n---",
        f"# {card.get('title', 'Hands at work')}\n\n{card.get('description', _DESCRIPTION)}",
        *_contents(summary, facts),
        _READING,
        _CONVENTIONS,
        *_making(facts, summary["backends"]),
        _rows("Models and weights", card.get("models"), ("name", "version", "weights")),
        _rows("Licences of what made this data", card.get("licences"), ("name", "licence", "of")),
    ]
    absent = [f"- `{video}`: {reason}" for video, reason in left_out.items()]
    lists = (("## Left out", absent, summary["left_out"]), ("## Kept without a part", facts.missing, facts.missing_count))
    for title, lines, number in lists:
        if number:
            more = [f"- and {number - MAX_CARD_LINES} more, see index.sqlite"] if number > MAX_CARD_LINES else []
            sections.append(title + "\n\n" + "\n".join(lines[:MAX_CARD_LINES] + more))
    if card.get("settings"):
        text = yaml.safe_dump(dict(card["settings"]), sort_keys=True, allow_unicode=True).strip()
        sections.append(f"## Settings\n\n```yaml\n{text}\n```")
    return "\n\n".join(section for section in sections if section) + "\n"


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

Or with h5py alone (`import hdf5plugin` first): one HDF5 file per video. Take the list of files from the
table `video` of `index.sqlite`."""


_CONVENTIONS = f"""## Conventions

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


def _contents(summary: Mapping[str, Any], facts: CardFacts) -> list[str]:
    """What is in the dataset, and of what worth: two sections."""
    totals = summary["totals"]
    splits = ", ".join(f"{name} {count}" for name, count in sorted(summary["splits"].items())) or "none"
    lines = [
        f"{totals['videos']} videos, {totals['frames']} frames, {totals['windows']} windows, {totals['points']} tracked points, "
        f"{totals['bytes'] / 1e9:.3g} GB.",
        "Videos with " + (", ".join(f"{part}: {count}" for part, count in sorted(facts.parts.items())) or "RGB alone") + ".",
        f"Splits (by subject or source, so that nothing leaks): {splits}.",
    ]
    for name, what in COUNTED.items():
        counts = ", ".join(f"{value:g} ({count} videos)" for value, count in sorted(facts.values[name].items())) or "none"
        lines.append(f"{what.capitalize()}: {counts}.")
    if facts.intrinsics:
        known = ", ".join(f"{how}, {_INTRINSICS[how]}: {count} videos" for how, count in sorted(facts.intrinsics.items()))
        lines.append(f"Focal length and centre of the camera: {known}.")
    if facts.interpolated is not None:
        share = f"{facts.interpolated:.0%}"
        lines.append(f"Interpolated hands (flagged in `hands/interpolated`): at most {share} of a video's valid ones.")

    rows = []
    for name in sorted(summary["groups"], key=group_rank):
        group = GroupParts.parse(name)
        lengths = _SCALES[group.scale] + (", hands by a guessed focal length" if group.assumed_K else "")
        main = " (in normalization_stats.yaml)" if name == summary["statistics_group"] else ""
        rows.append(f"| {name}{main} | {summary['groups'][name]} | {_TIERS[group.tier]} | {lengths} |")
    head = "| group | videos | depth | lengths |\n|---|---|---|---|\n"
    why = "Depth of different worth is never mixed in one statistic, nor the hands of a known camera with those of a guessed one."
    return ["## What is in it\n\n" + "\n".join(f"- {line}" for line in lines), f"## Groups\n\n{why}\n\n" + head + "\n".join(rows)]


def _making(facts: CardFacts, backends: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What made the dataset, and how well its parts agree: no section, one or two."""
    sections = []
    if facts.backends:
        # Backends of one name and other settings or weights are one row here; the index tells them apart.
        named: Counter[tuple[str, str]] = Counter()
        for (stage, backend), count in facts.backends.items():
            named[stage, str(backends[backend].get("name", "?"))] += count
        used = [f"| {stage} | {name} | {count} |" for (stage, name), count in sorted(named.items())]
        sections.append("## How it was made\n\n| stage | backend | videos |\n|---|---|---|\n" + "\n".join(used))
        if facts.notes:
            listed = [f"- {stage}: {note} ({count} videos)" for (stage, note), count in sorted(facts.notes.items())]
            sections.append("\n".join(listed[:MAX_CARD_LINES]))
    rows = []
    for name, score in SCORES.items():
        values = sorted(facts.quality[name])
        if values:
            side = ">" if score.above else "<"
            poor = sum(score.poor(value) for value in values)
            limit = f"{side} {score.threshold:g} {score.unit}"
            rows.append(f"| {name} | {score.definition} | {values[len(values) // 2]:.3g} | {limit}: {poor} of {len(values)} |")
    if rows:
        intro = "How well the arrays of a file agree with each other; they can be wrong together. Per file: index.sqlite.\n\n"
        head = "| score | what | median | worth a look |\n|---|---|---|---|\n"
        sections.append("## Quality\n\n" + intro + head + "\n".join(rows))
    return sections


def _rows(title: str, rows: Sequence[Mapping[str, Any]] | None, columns: Sequence[str]) -> str:
    if not rows:
        return ""
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    return f"## {title}\n\n" + head + "\n".join("| " + " | ".join(str(row.get(c, "")) for c in columns) + " |" for row in rows)
