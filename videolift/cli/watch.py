"""``videolift status --watch``: a live view on a terminal, a line now and then elsewhere, JSON lines, a Prometheus text file."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from videolift.records.runs import Run
from videolift.report.progress import ProgressTracker, RunProgress
from videolift.store import write_text

_SHORT, _LONG = 60.0, 3600.0


def watch_run(run: Run, *, every_s: float, as_json: bool, prometheus: Path | None, rounds: int | None = None) -> None:
    """Shows a run until nothing is left to do, or Ctrl-C.

    Args:
        run: what to follow.
        every_s: seconds between two looks.
        as_json: print one JSON object per look instead of the view.
        prometheus: a text file to keep up to date for a node exporter; None for none.
        rounds: looks at most; None for no limit.
    """
    console = Console()
    # A terminal is redrawn; a log file or a pipe gets one line per look.
    view = Live(console=console, auto_refresh=False) if console.is_terminal and not as_json else None
    tracker = ProgressTracker(run)
    try:
        with view or nullcontext():
            for look in itertools.count(1):
                tracker.read()
                now = tracker.progress()
                if prometheus is not None:
                    # Published whole: the collector may read at any moment.
                    write_text(prometheus, prometheus_text(now))
                if as_json:
                    typer.echo(json.dumps(asdict(now)))
                elif view is not None:
                    view.update(live_view(now), refresh=True)
                else:
                    typer.echo(progress_line(now))
                # Only now, so that the end is shown too.
                if now.done == now.total or look == rounds:
                    break
                time.sleep(every_s)
    except KeyboardInterrupt:
        typer.echo("no longer watching; the run goes on", err=True)


def duration(seconds: float | None) -> str:
    """Seconds for people."""
    if seconds is None:
        return "unknown"
    if seconds < _SHORT:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < _LONG else f"{seconds / 3600:.1f} h"


def progress_line(now: RunProgress) -> str:
    """One line in the form that the pools' lines have: done of total, rate, time left, what is at work."""
    stages = ", ".join(f"{stage.stage} {stage.done}" for stage in now.stages if stage.todo)
    workers = sum(device.workers for device in now.devices)
    rate = f"{60 * now.videos_per_minute:.0f}/h"
    return f"run: {now.done}/{now.total}, {rate}, left {duration(now.eta_seconds)}, {workers} workers; {stages or 'nothing to do'}"


def live_view(now: RunProgress) -> Group:
    """The view on a terminal."""
    head = Text.assemble(
        (f"{now.done} of {now.total} videos", "bold"),
        f"   {now.videos_per_minute:.1f} videos/min   after {duration(now.elapsed_seconds)}   left ",
        (duration(now.eta_seconds), "bold"),
    )
    stages = Table(box=None, padding=(0, 1))
    for name in ("stage", "", "done", "lost", "to do", "in work", "work left"):
        stages.add_column(name, justify="left" if name in ("stage", "") else "right")
    for stage in now.stages:
        all_videos = stage.done + stage.lost + stage.todo
        bar = ProgressBar(total=max(all_videos, 1), completed=stage.done + stage.lost, width=24)
        figures = (str(figure) for figure in (stage.done, stage.lost, stage.todo, stage.running))
        stages.add_row(stage.stage, bar, *figures, duration(stage.left_seconds) if stage.todo else "")
    devices = Table(box=None, padding=(0, 1))
    for name in ("at work", "device", "workers", "memory", "free"):
        devices.add_column(name, justify="left" if name in ("at work", "device") else "right")
    for device in now.devices:
        devices.add_row(device.pool, device.device, str(device.workers), f"{device.own_gib:.1f} GiB", f"{device.free_gib:.1f} GiB")
    # An empty table would look like a run without workers.
    if not now.devices:
        devices.add_row("no pool has written anything in the last minutes", "", "", "", "")
    return Group(head, stages, devices, *(Text(line, overflow="ellipsis") for line in now.last_events))


def prometheus_text(now: RunProgress) -> str:
    """The text format of Prometheus, for a node exporter's textfile collector."""
    lines = ["# TYPE videolift_videos gauge", "# TYPE videolift_workers gauge", "# TYPE videolift_memory_bytes gauge"]
    for stage in now.stages:
        for state in ("done", "lost", "todo", "running"):
            lines.append(f'videolift_videos{{stage="{stage.stage}",state="{state}"}} {getattr(stage, state)}')
    for device in now.devices:
        labels = f'{{pool="{device.pool}",device="{device.device}"}}'
        lines.append(f"videolift_workers{labels} {device.workers}")
        lines.append(f"videolift_memory_bytes{labels} {device.own_gib * 2**30:.0f}")
    lines.append(f"videolift_run_videos_done {now.done}")
    lines.append(f"videolift_run_videos_total {now.total}")
    lines.append(f"videolift_run_videos_per_minute {now.videos_per_minute:.3f}")
    lines.append(f"videolift_run_elapsed_seconds {now.elapsed_seconds:.0f}")
    # A gauge that is left out is a gap in the graph; a 0 would say that the run is over.
    if now.eta_seconds is not None:
        lines.append(f"videolift_run_eta_seconds {now.eta_seconds:.0f}")
    return "\n".join(lines) + "\n"
