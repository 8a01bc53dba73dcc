"""Commands about cameras: which are known by name, and what several clips say of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from videolift.cli.common import Output, layout_of
from videolift.config import user_path
from videolift.errors import ConfigError
from videolift.store import write_text


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    for command in (calibrate, cameras):
        app.command()(command)


def cameras() -> None:
    """Cameras that the table of videos may name in its column `camera`, with where their values are from."""
    from videolift.inputs.named_cameras import common_cameras

    for camera in common_cameras().values():
        width, height = camera.lens.size_px or (0, 0)
        typer.echo(f"{camera.name:<30} f {camera.lens.K[0, 0]:.0f} px of {width}x{height}   {camera.source}")


def calibrate(
    output: Output = None,
    to: Annotated[Path | None, typer.Option("--to", help="File to write; by default cameras.yaml beside the table.")] = None,
) -> None:
    """One focal length per camera from all its clips, by what depth.backend sfm found in each; exit code 1 if one stays unknown."""
    from videolift.inputs.named_cameras import CAMERAS_FILE, read_camera_rows
    from videolift.records.camera_clips import solved_cameras
    from videolift.records.runs import latest_run

    run = latest_run(layout_of(output).output)
    table = user_path(run.config.videos)
    # Where a table's cameras are looked for; the current folder where a folder of videos was lifted.
    path = to or (table.parent if table.suffix == ".csv" else Path.cwd()) / CAMERAS_FILE
    solved = solved_cameras(run)
    if not solved:
        raise ConfigError(
            "no clip has a focal curve: run with depth.backend sfm (preset cpu) first, without `calib`, "
            "and say in the table's column `camera` which camera took each video"
        )
    # Cameras that stay unknown, and those of other runs, keep what the file says of them.
    rows = read_camera_rows(path) if path.is_file() else {}
    for camera in solved:
        typer.echo(camera.line())
        if camera.shared.known:
            rows[camera.name] = camera.row()
    write_text(path, yaml.safe_dump(rows, sort_keys=True, allow_unicode=True))
    typer.echo(f"{path}: read for every table beside it; run again, and rows that name these cameras take their focal length")
    # After the file is written: what is known of the other cameras is kept.
    raise typer.Exit(int(not all(camera.shared.known for camera in solved)))
