"""Options and helpers that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from videolift.config import user_path
from videolift.errors import ConfigError
from videolift.paths import Layout
from videolift.plain_yaml import read_yaml

Output = Annotated[Path | None, typer.Option("--output", "-o", help="Output folder of a run; by default that of ./config.yaml.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def layout_of(output: Path | None) -> Layout:
    """The output folder: the one given, else the one that ./config.yaml names, else ./output."""
    if output is None:
        config = Path("config.yaml")
        # Only this one key: a mistake elsewhere in the settings must not keep anyone from looking at the output.
        try:
            tree = read_yaml(config.read_text(encoding="utf-8")) if config.is_file() else None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{config}: {error}") from error
        output = user_path((tree or {}).get("output", "output"))
    return Layout(output.resolve())


def size(number: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def print_json(value: Any) -> None:
    """Prints a value as JSON."""
    typer.echo(json.dumps(value, indent=1, default=str))
