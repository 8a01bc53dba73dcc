"""Commands that show results: preview, view, report, audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videolift.cli.common import Output, layout_of
from videolift.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    for command in (preview, view, report, audit):
        app.command()(command)


def preview(video: str, output: Output = None) -> None:
    """Writes a video and a picture of what was found in VIDEO: tracks, hands, depth with its scale, worst seconds marked."""
    from videolift.report import write_preview

    for path in write_preview(layout_of(output).output, video):
        typer.echo(path)


def view(
    video: str,
    output: Output = None,
    page: Annotated[bool, typer.Option("--page", help="Write a 3D page that any browser opens, without rerun.")] = False,
    save: Annotated[Path | None, typer.Option("--save", help="Write a .rrd file for the rerun viewer here instead.")] = None,
    web: Annotated[bool, typer.Option("--web", help="Show it in a web browser instead of a window, until Ctrl-C.")] = False,
) -> None:
    """Opens VIDEO in 3D: camera, images, depth, points, hands, scores; in the rerun viewer (pip install 'videolift[view]')."""
    from videolift.report import open_viewer, write_rerun, write_scene_page

    if sum((page, web, save is not None)) > 1:
        raise ConfigError("--page, --save and --web exclude each other: give one")
    folder = layout_of(output).output
    if page:
        typer.echo(write_scene_page(folder, video))
    elif save is not None:
        typer.echo(write_rerun(folder, video, save))
    else:
        open_viewer(folder, video, web=web)


def report(
    output: Output = None,
    draw: Annotated[int, typer.Option("--draw", min=0, help="Previews to draw for the worst videos that have none.")] = 12,
) -> None:
    """Writes report/index.html over all videos of a run: verdict, previews, scores, losses with remedies, cost, provenance."""
    from videolift.report import write_report

    typer.echo(write_report(layout_of(output).output, draw=draw))


def audit(
    output: Output = None,
    samples: Annotated[int, typer.Option("-n", "--samples", min=1, help="Frames to draw, evenly over all packaged frames.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other frames.")] = 0,
    marks: Annotated[Path | None, typer.Option(help="Take in what was judged: the file that the sheet saved.")] = None,
) -> None:
    """Writes report/audit.html: frames to be marked right or wrong in a browser; --marks puts the rates on the card."""
    from videolift.dataset.audit import add_marks, read_marks
    from videolift.dataset.index import read_index
    from videolift.report import write_audit_sheet

    layout = layout_of(output)
    if marks is None:
        typer.echo(write_audit_sheet(layout.output, samples=samples, seed=seed))
        return
    # By the content's digest: marks hold for the file that was looked at, not for one made again since.
    contents = [(entry.video, entry.sha256) for entry in read_index(layout.dataset).entries]
    for rate in add_marks(layout.dataset, read_marks(marks), contents):
        typer.echo(rate)
