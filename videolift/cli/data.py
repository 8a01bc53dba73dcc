"""Commands about the packaged dataset."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
