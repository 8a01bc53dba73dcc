"""Commands about the videos of a run: status, retry, exclude, include, remove, clean."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from videolift.cli.common import Json, Output, Yes, layout_of, print_json, size
from videolift.errors import ConfigError
from videolift.pool import pools_at_work, summary_lines
from videolift.records import maintenance
from videolift.records.maintenance import Deletion
from videolift.records.runs import latest_run
from videolift.records.status import collect, write_quarantine
from videolift.stage_table import STAGES

Videos = Annotated[list[str] | None, typer.Argument(help="Ids of videos.", show_default=False)]
StageOption = Annotated[str | None, typer.Option("--stage", help=f"One of {', '.join(STAGES)}.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    for command in (status, retry, exclude, include, remove, clean):
        app.command()(command)


def status(
    output: Output = None,
    as_json: Json = False,
    videos: Annotated[bool, typer.Option("--videos", help="Also a line per video.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the run until it ends.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks of --watch.")] = 2.0,
    prometheus: Annotated[Path | None, typer.Option(help="Keep this text file up to date while watching.")] = None,
) -> None:
    """Where a run stands: every video done, quarantined with a reason, excluded or pending; exits 1 if one is lost or pending."""
    run = latest_run(layout_of(output).output)
    if watch:
        from videolift.cli.watch import watch_run  # imports all that a report is drawn with

        watch_run(run, every_s=every, as_json=as_json, prometheus=prometheus)
        return
    found, pools = collect(run), pools_at_work(run.layout.output / "logs")
    # quarantine.csv is only a view of the records; every status brings it up to date.
    write_quarantine(run.layout, found.videos)
    if as_json:
        print_json(found.to_json() | {"pools": {name: asdict(state) for name, state in pools.items()}})
    else:
        working = [
            line for name, state in pools.items() for line in (f"at work: {name}", *(f"  {row}" for row in summary_lines(state)))
        ]
        typer.echo("\n".join([*found.table(), *(found.video_lines() if videos else []), *working, *found.lines()]))
    raise typer.Exit(int(found.exit_code))


def retry(
    videos: Videos = None,
    stage: StageOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Every quarantined video.")] = False,
    output: Output = None,
) -> None:
    """Lifts quarantines, so that the next run tries again."""
    # Naming nothing does not mean all: a forgotten id must not lift every quarantine.
    if bool(videos) == everything:
        raise ConfigError("name videos, or give --all")
    lifted = maintenance.lift_quarantines(layout_of(output), videos or None, (_checked(stage),) if stage else STAGES)
    for video, stages in lifted.items():
        typer.echo(f"{video}: {', '.join(stages)} will be tried again")
    typer.echo("run the same snakemake command again" if lifted else "nothing is quarantined")


def exclude(video: str, reason: Annotated[str, typer.Option("--reason", help="Why; on the card.")], output: Output = None) -> None:
    """Takes a video out by decision; its artifacts stay. `include` undoes it."""
    maintenance.exclude_video(layout_of(output), video, reason)
    typer.echo(f"{video} is excluded from the next run on")


def include(video: str, output: Output = None) -> None:
    """Undoes `exclude`."""
    maintenance.include_video(layout_of(output), video)
    typer.echo(f"{video} is back from the next run on")


def remove(videos: Annotated[list[str], typer.Argument(help="Ids of videos.")], output: Output = None, yes: Yes = False) -> None:
    """Deletes everything that runs made of some videos. The sources are not touched."""
    layout = layout_of(output)
    # A run that works on these videos would write their files again after they were deleted.
    with maintenance.batches_held(layout, maintenance.batches_of(layout, videos)):
        _delete(maintenance.everything_of(layout, videos), yes)


def clean(stage: StageOption = None, output: Output = None, yes: Yes = False) -> None:
    """Deletes what unfinished work left behind; with --stage all work of that stage. Asks, and lists bytes."""
    layout = layout_of(output)
    # As for `remove`: what looks like a leftover may be what a run is writing.
    with maintenance.batches_held(layout, maintenance.all_batches(layout)):
        _delete(maintenance.work_of(layout, _checked(stage)) if stage else maintenance.leftovers(layout), yes)


def _checked(stage: str) -> str:
    if stage not in STAGES:
        raise ConfigError(f"{stage!r} is not a stage: use one of {', '.join(STAGES)}")
    return stage


def _delete(deletion: Deletion, yes: bool) -> None:
    if not deletion.paths:
        typer.echo("nothing to delete")
        return
    for path in deletion.paths:
        typer.echo(f"  {size(Deletion((path,)).bytes):>9}  {path}")
    if not yes:
        typer.confirm(f"delete {size(deletion.bytes)} in {len(deletion.paths)} places?", abort=True)
    deletion.delete()
    typer.echo("deleted")
