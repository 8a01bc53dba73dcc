"""One offline page about a run: every video with its picture, worth, figures and losses, and the statistics of the dataset.

Turns a run's status, receipts and artifacts into a single HTML file without scripts or references to other files. Numbers come
from `videolift.records.status` and `videolift.report.facts`; this module lays them out.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml

from videolift.paths import Layout
from videolift.records.receipts import ReceiptCache
from videolift.records.runs import latest_run
from videolift.records.status import Loss, Status, VideoStatus, collect
from videolift.report.facts import VideoFacts, gather
from videolift.report.findings import TIERS
from videolift.store import write_text

MOST_PICTURES = 200
"""Videos with a picture; each takes about 25 kB of the page."""
_ORDER = ("quarantined", "pending", "done", "excluded")
_MOMENTS = ("rgb", "depth", "displacement", "pose", "hand_uvd_disp", "hand_rot_disp")
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c1f24;background:#fff}
h1{margin-bottom:.2rem}section.video{display:flex;gap:1.2rem;border-top:1px solid #ddd;padding:1rem 0}
section.video>div{flex:1;min-width:0}img{width:480px;max-width:45vw;align-self:flex-start}
.state{border-radius:.3rem;padding:.05rem .5rem;color:#fff;font-size:.85rem}
.done{background:#2f7d4f}.quarantined{background:#b3362b}
.pending{background:#a97a14}.excluded{background:#6b7280}table{border-collapse:collapse;font-size:.9rem}
td,th{border:1px solid #ddd;padding:.15rem .5rem;text-align:left;vertical-align:top}td.n{font-variant-numeric:tabular-nums}
pre{overflow-x:auto}
.loss{border-left:3px solid #b3362b;padding-left:.6rem;margin:.4rem 0}.note{color:#555;font-size:.9rem;margin:.2rem 0}
"""
_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    f"<title>videolift report</title><style>{_STYLE}</style></head><body>"
)


def write_report(output: Path) -> Path:
    """Writes ``report.html`` about the run started last in ``output`` and returns its path.

    Raises:
        ConfigError: there is no run in ``output``.
        Transient: disk full, quota or I/O error.
    """
    layout = Layout(output)
    status = collect(latest_run(output))
    receipts = ReceiptCache(layout)
    rows = sorted(status.videos, key=lambda row: (_ORDER.index(row.overall), row.video))
    facts = (gather(output, row.video, receipts, picture=i < MOST_PICTURES) for i, row in enumerate(rows))
    write_text(layout.report, render(status, zip(rows, facts, strict=True), read_statistics(layout.dataset)))
    return layout.report


def read_statistics(dataset: Path) -> dict[str, Mapping[str, Any]]:
    """Group to its table, from every ``normalization_stats*.yaml`` of a dataset."""
    tables = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(dataset.glob("normalization_stats*.yaml"))]
    return {str(table["group"]): table for table in tables}


def render(status: Status, videos: Iterable[tuple[VideoStatus, VideoFacts]], statistics: Mapping[str, Mapping[str, Any]]) -> str:
    """The page as text."""
    sections = "".join(_video(row, facts) for row, facts in videos)
    more = len(status.videos) - MOST_PICTURES
    note = f"<p class=note>Pictures of the first {MOST_PICTURES} videos; {more} more follow without.</p>" if more > 0 else ""
    top = f"<h1>videolift report</h1><p>{escape(status.headline())}</p>"
    return f"{_HEAD}{top}{_stages(status)}{_statistics(statistics)}<h2>Videos</h2>{note}{sections}</body></html>\n"


def _stages(status: Status) -> str:
    lines = "\n".join(status.table())
    return f"<h2>Stages</h2><pre>{escape(lines)}</pre>"


def _video(row: VideoStatus, facts: VideoFacts) -> str:
    picture = ""
    if facts.thumbnail_jpeg is not None:
        data = base64.b64encode(facts.thumbnail_jpeg).decode()
        picture = f'<img alt="{escape(row.video)}" src="data:image/jpeg;base64,{data}">'
    losses = [loss for loss in (row.loss, *row.parts) if loss is not None]
    parts = [
        f"<h3>{escape(row.video)} <span class='state {row.overall}'>{row.overall}</span></h3>",
        *(_loss(loss) for loss in losses),
        _facts(facts),
        *(f"<p class=note>{escape(note)}</p>" for note in row.notes),
    ]
    return f"<section class=video>{picture}<div>{''.join(parts)}</div></section>"


def _loss(loss: Loss) -> str:
    where = f"<b>{escape(loss.stage)}</b>: " if loss.stage else ""
    return f"<p class=loss>{where}{escape(loss.text)} <code>{escape(loss.code)}</code><br>{escape(loss.remedy)}</p>"


def _facts(facts: VideoFacts) -> str:
    rows = [("clip", facts.clip)]
    if facts.worth:
        tier = TIERS[facts.worth["tier"]]
        rows.append(("depth", f"tier {tier}; scale {facts.worth['scale']}"))
        rows.append(("camera", f"pose {facts.worth['pose']}; intrinsics {facts.worth['intrinsics']}"))
    if facts.hands is not None:
        seen = ", ".join(f"{side} {share:.0%}" for side, share in facts.hands.valid.items())
        rows.append(("hands", f"in {seen} of frames; {facts.hands.interpolated:.0%} of them interpolated"))
        cut = f"{facts.hands.cut_by_edge:.0%} at the clip's edge, {facts.hands.cut_by_square:.0%} by the packaged square"
        rows.append(("hands cut", cut))
    rows.append(("backends", ", ".join(f"{stage} {name}" for stage, name in facts.backends.items())))
    for stage, figures in facts.figures.items():
        rows.append((f"{stage} figures", ", ".join(f"{name} {_number(value)}" for name, value in figures.items())))
    filled = [(name, text) for name, text in rows if text]
    return _table((), filled) if filled else ""


def _statistics(statistics: Mapping[str, Mapping[str, Any]]) -> str:
    text = "".join(_group(name, table) for name, table in statistics.items())
    return f"<h2>Statistics</h2>{text}" if text else ""


def _group(name: str, table: Mapping[str, Any]) -> str:
    rows = []
    for key in _MOMENTS:
        if f"{key}_mean" in table:
            mean, std = (_numbers(table[f"{key}_{moment}"]) for moment in ("mean", "std"))
            rows.append((key, mean, std))
    left_out = "".join(f"<li>{escape(str(v))}: {escape(str(why))}</li>" for v, why in (table.get("left_out") or {}).items())
    title = f"<h3>{escape(name)}: {len(table.get('videos', ()))} videos</h3>"
    return title + _table(("", "mean", "std"), rows) + (f"<p>Left out:</p><ul>{left_out}</ul>" if left_out else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>" if head else ""
    body = "".join("<tr>" + "".join(f"<td class=n>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{top}{body}</table>"


def _numbers(value: Any) -> str:
    return ", ".join(map(_number, value)) if isinstance(value, list) else _number(value)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
