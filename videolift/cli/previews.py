"""Commands that show results: preview, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videolift.cli.common import Output, layout_of


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    for command in (preview, report):
        app.command()(command)


def preview(
    video: str,
    output: Output = None,
    rerun: Annotated[Path | None, typer.Option("--rerun", help="Also write a .rrd file for the rerun viewer here.")] = None,
) -> None:
    """Writes a video and a picture of what was found in VIDEO: tracks, hands, depth with its scale."""
    from videolift.report import write_preview, write_rerun

    folder = layout_of(output).output
    for path in write_preview(folder, video):
        typer.echo(path)
    if rerun is not None:
        write_rerun(folder, video, rerun)
        typer.echo(rerun)


def report(
    output: Output = None,
    draw: Annotated[int, typer.Option("--draw", min=0, help="Previews to draw for the worst videos that have none.")] = 12,
) -> None:
    """Writes report/index.html over all videos of a run: verdict, previews, scores, losses with remedies, cost, provenance."""
    from videolift.report import write_report

    typer.echo(write_report(layout_of(output).output, draw=draw))
