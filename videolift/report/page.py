"""The report: one HTML file about a whole run, ``report/index.html``, that opens from disk and needs nothing else.

This module gathers what the page shows and writes it into the page as JSON; layout, filters and charts are
``assets/report.js``. Previews are files beside the page that it links to. Charts are SVG of some sixty lines: a screen reader
reads them, they print, and the style sheet gives them dark mode; a library that draws on a canvas would lose all three.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from videolift.dataset.index import read_index
from videolift.dataset.quality import SCORES
from videolift.errors import ConfigError
from videolift.paths import Layout
from videolift.records.record_reader import RecordReader
from videolift.records.runs import Run, latest_run
from videolift.records.status import collect
from videolift.report.distributions import distributions
from videolift.report.html_page import fill_page
from videolift.report.preview import is_preview_fresh, write_preview
from videolift.report.rows import Rows, video_rows, worst_videos
from videolift.report.timeline import read_timeline
from videolift.stage_table import PACKAGING, STAGES, STATISTICS
from videolift.store import write_text

MAX_POSTERS = 200
"""Videos whose picture is inside the page, worst first; each takes about 20 kB."""
MAX_ROWS = 10_000
"""Videos on the page, worst first: what a browser filters without a pause. Of 10,000 it takes 9 CPU seconds to make."""


def write_report(output: Path, *, draw: int = 0) -> Path:
    """Writes ``report/index.html`` about the run started last in ``output`` and returns its path.

    Args:
        output: of the run.
        draw: previews to draw for the worst videos that have none yet.

    Raises:
        ConfigError: there is no run in ``output``.
        CorruptFile: a packaged file whose statistics have to be made again cannot be read.
        Transient: disk full, quota or I/O error.
    """
    layout = Layout(output)
    write_text(layout.report, report_html(report_content(latest_run(output), draw=draw)))
    return layout.report


def is_report_fresh(layout: Layout) -> bool:
    """True if no job has ended since the report was written."""
    try:
        # A folder changes its time when a manifest appears in it, and a manifest is what a job writes last.
        written = layout.report.stat().st_mtime_ns
    except FileNotFoundError:
        return False
    folders = [layout.manifests(stage) for stage in (*STAGES, STATISTICS)]
    return all(folder.stat().st_mtime_ns < written for folder in folders if folder.is_dir())


def report_content(run: Run, *, draw: int = 0) -> dict[str, object]:
    """Everything the page shows, as JSON can hold it; equal runs give equal content. Arguments as `write_report`."""
    layout, status, records = run.layout, collect(run), RecordReader(run.layout)
    try:
        index = read_index(layout.dataset)
    except ConfigError:
        index = None
    # By content: a file that was made again since has not been verified, whatever its name.
    verified = [e for e in index.entries if records.record(PACKAGING, e.video).verified_sha256 == e.sha256] if index else []
    listed = worst_videos(status.videos, index, MAX_ROWS)
    by_video = index.descriptions({video.video for video in listed}) if index else {}
    rows = video_rows(layout, listed, by_video, records)
    _add_media(layout, rows, draw)
    timeline = read_timeline(layout.output / "logs")
    # Variants of a run share most of their backends: each is shown once.
    identities: dict[str, list[Mapping[str, object]]] = {stage: [] for stage in STAGES}
    for variant in run.variants:
        for stage, identity in variant.identities.items():
            if identity is not None and identity not in identities.setdefault(stage, []):
                identities[stage].append(identity)
    return {
        "run": run.folder.name,
        "output": layout.output.name,
        "counts": status.counts,
        "allowed": status.max_quarantined,
        "stage_states": {
            stage: dict(Counter(video.stages[stage] for video in status.videos if stage in video.stages)) for stage in STAGES
        },
        "verified": len(verified),
        "packaged": len(index.entries) if index else 0,
        "totals": index.summary["totals"] if index else {},
        "length_s": round(sum(entry.frames / entry.fps for entry in index.entries), 1) if index else 0.0,
        "work_s": round(sum(sum(video.seconds.values()) for video in status.videos), 1),
        "stages": list(STAGES),
        "scores": {
            name: {"unit": s.unit, "what": s.definition, "limit": s.threshold, "above": s.above} for name, s in SCORES.items()
        },
        **asdict(rows),
        "timeline": asdict(timeline),
        "distributions": distributions(index) if index else {},
        "statistics_group": index.statistics_group if index else None,
        "left_out": index.left_out if index else {},
        "licences": index.summary.get("licences", []) if index else [],
        "identities": identities,
        "settings": run.plan.get("changed", {}),
    }


def report_html(content: Mapping[str, object]) -> str:
    """The page as text."""
    return fill_page("report", content)


def _add_media(layout: Layout, rows: Rows, draw: int) -> None:
    """Names each video's preview and 3D page where there is one; pictures of the first `MAX_POSTERS` go into the page.

    Up to ``draw`` previews are drawn first, of the worst videos without one that is newer than what it shows.
    """
    for video in (str(row["id"]) for row in rows.videos if row["state"] != "excluded"):
        # Rows are worst first, so that what is drawn is what people look at.
        if draw <= 0:
            break
        sources = [layout.artifact("create_h5", video), layout.artifact("ingest", video)]
        if any(path.exists() for path in sources) and not is_preview_fresh(layout, video):
            write_preview(layout.output, video)
            draw -= 1

    # One listing of a folder instead of a look for each of ten thousand videos.
    there = {path.name for path in layout.previews.iterdir()} if layout.previews.is_dir() else set()
    scenes, posters = layout.scene_page("x").parent, 0
    in_3d = {path.stem for path in scenes.iterdir()} if scenes.is_dir() else set()
    for row in rows.videos:
        video = str(row["id"])
        if video in in_3d:
            row["scene"] = f"{scenes.name}/{video}.html"
        if f"{video}.mp4" in there:
            row["preview"] = f"{layout.previews.name}/{video}.mp4"
        # Beyond those the page shows no picture until the preview is played: 10,000 of them would be 200 MB
        if f"{video}.jpg" in there and posters < MAX_POSTERS:
            posters += 1
            row["poster"] = base64.b64encode((layout.previews / f"{video}.jpg").read_bytes()).decode()
