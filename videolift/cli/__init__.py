"""The command ``videolift``: thin wrappers around functions of the library.

What needs the backends (run, plan, doctor, models) is handed to the checkout the command stands in, else to the installed workflow.
Errors become exit codes here and nowhere else (`videolift.errors.ExitCode`).
"""

from __future__ import annotations

import sys

import typer

from videolift.cli import calibrate, checkout, data, previews, videos
from videolift.errors import VideoliftError

app = typer.Typer(
    name="videolift",
    help="From videos of hands at work to a checked HDF5 training dataset. To make one: videolift run FOLDER",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would take the brackets of `videolift[view]` in a help text for markup
)
# Commands import what they need when they run: reading the whole library takes longer than most of them do.
for part in (checkout, videos, previews, data, calibrate):
    part.register(app)


def main() -> None:
    """Entry point."""
    try:
        app()
    except VideoliftError as error:
        print(f"videolift: {error}", file=sys.stderr)
        sys.exit(int(error.exit_code))
