"""One row per video for the report: its state, losses, scores, figures and cost.

Everything comes from the run's status, the receipts and the dataset's index; no artifact is opened, so that ten thousand videos
take seconds. Rows are plain values that JSON can hold.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from videolift.dataset.index.index_reader import Index, read_index_rows
from videolift.dataset.quality import SCORES
from videolift.paths import Layout
from videolift.records.receipts import Receipt
from videolift.records.record_reader import RecordReader
from videolift.records.status import Loss, VideoStatus
from videolift.report.attention import beyond_limit
from videolift.stage_table import STAGES

_STATE_ORDER = ("quarantined", "pending", "done", "excluded")
_COPIED = ("tier", "scale", "pose", "intrinsics", "frames", "fps", "windows", "points", "bytes", "text", "subject")


def round_to_4_digits(value: float) -> float:
    """``value`` to four significant digits: a report holds hundreds of thousands of figures."""
    return float(f"{value:.4g}")


@dataclass
class Rows:
    """Rows of videos, worst first, and the texts they share by number.

    Attributes:
        videos: one mapping per video.
        losses: distinct reasons with code, text and remedy; rows name them by number.
        figures: names of the receipts' figures, ``stage.name``; rows list values in this order.
        backends: distinct sets of backends, stage to name; rows name them by number.
    """

    videos: list[dict[str, object]] = field(default_factory=list)
    losses: list[dict[str, str]] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    backends: list[dict[str, str]] = field(default_factory=list)


def worst_videos(videos: Sequence[VideoStatus], index: Index | None, count: int) -> list[VideoStatus]:
    """The first ``count`` videos in the order of `video_rows`, or all where there are no more; reads no receipt."""
    if len(videos) <= count:
        return list(videos)
    excess: dict[str, float] = {}
    for row in read_index_rows(index.folder) if index is not None else ():
        scores = ((name, row.value(f"quality_{name}")) for name in SCORES)
        excess[row.text("video")] = max((beyond_limit(name, v) for name, v in scores if isinstance(v, float)), default=0.0)

    def order(video: VideoStatus) -> tuple[int, float, str]:
        return _STATE_ORDER.index(video.overall), -excess.get(video.video, 0.0), video.video

    return heapq.nsmallest(count, videos, key=order)


def video_rows(layout: Layout, videos: Iterable[VideoStatus], index: Mapping[str, Mapping[str, Any]], read: RecordReader) -> Rows:
    """Rows for ``videos``: what is lost first, then what waits, then what is done by its worst score, then what is excluded.

    Args:
        layout: of the output folder, for links to logs.
        videos: every video's status.
        index: what the dataset's index says, by video.
        read: receipts by stage and video.
    """
    out = Rows()
    loss_numbers: dict[Loss, int] = {}
    figure_numbers: dict[str, int] = {}
    backend_numbers: dict[tuple[tuple[str, str], ...], int] = {}
    # One listing per stage instead of a look for each video and stage.
    folders = {stage: layout.video_log(stage, "x").parent for stage in STAGES}
    logs = {stage: {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]() for stage, folder in folders.items()}
    for status in videos:
        receipts: dict[str, Receipt] = {stage: receipt for stage in STAGES if (receipt := read(stage, status.video)) is not None}
        entry = index.get(status.video)
        row: dict[str, object] = {"id": status.video, "state": status.overall}
        row |= _worth(entry)
        row["seconds"] = [round_to_4_digits(receipts[stage].seconds) if stage in receipts else None for stage in STAGES]
        peaks = [receipts[stage].peak_bytes if stage in receipts else None for stage in STAGES]
        row |= {"peaks": peaks} if any(peaks) else {}
        losses = [loss for loss in (status.loss, *status.parts) if loss is not None]
        row["losses"] = [loss_numbers.setdefault(loss, len(loss_numbers)) for loss in losses]
        row["logs"] = [f"../logs/{s}/{status.video}.log" for s in STAGES if f"{status.video}.log" in logs[s]]
        row["notes"] = list(status.notes)
        if status.overall == "pending":
            row["waits"] = next((f"{s}: {status.why.get(s) or k}" for s, k in status.stages.items() if k in ("todo", "stale")), "")
        # Thousands of videos share a few reasons, figures and backends: rows name them by number.
        names = tuple((stage, str(receipt.backend.get("name", "?"))) for stage, receipt in receipts.items())
        row["backends"] = backend_numbers.setdefault(names, len(backend_numbers))
        values: dict[int, float] = {}
        for stage, receipt in receipts.items():
            for name, value in receipt.figures.items():
                number = figure_numbers.setdefault(f"{stage}.{name}", len(figure_numbers))
                values[number] = round_to_4_digits(value)
        # Numbers grow while rows are read, so that rows are of different length; the page fills them up.
        row["figures"] = [values.get(number) for number in range(max(values, default=-1) + 1)]
        out.videos.append(row)

    def order(row: Mapping[str, object]) -> tuple[int, float, str]:
        beyond = row.get("excess", 0.0)
        return _STATE_ORDER.index(str(row["state"])), -beyond if isinstance(beyond, float) else 0.0, str(row["id"])

    out.videos.sort(key=order)
    out.losses = [{"stage": x.stage, "code": x.code, "text": x.text, "remedy": x.remedy} for x in loss_numbers]
    out.figures = list(figure_numbers)
    out.backends = [dict(names) for names in backend_numbers]
    return out


def _worth(entry: Mapping[str, Any] | None) -> dict[str, object]:
    """What the dataset's index says of a packaged video; empty for one that is not packaged."""
    if entry is None:
        return {}
    row: dict[str, object] = {name: value for name in _COPIED if (value := entry.get(name)) not in (None, "")}
    row["split"] = entry["split"]
    quality: Mapping[str, float] = entry.get("quality", {})
    scores: list[float | None] = []
    worst_score, worst_excess = -1, 0.0
    for number, name in enumerate(SCORES):
        value = quality.get(name)
        scores.append(None if value is None else round_to_4_digits(value))
        if value is not None and (beyond := beyond_limit(name, value)) > worst_excess:
            worst_score, worst_excess = number, beyond
    row["scores"] = scores
    if worst_score >= 0:
        row |= {"worst": worst_score, "excess": round_to_4_digits(worst_excess)}
    return row
