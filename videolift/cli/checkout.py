"""Commands that need the backends; they run in the checkout this command stands in, else in the one it was installed from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import typer

from videolift.errors import ConfigError

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    app.command("plan", context_settings=_PASS_ON)(plan)
    app.command("doctor", context_settings=_PASS_ON)(doctor)
    app.command("models", context_settings=_PASS_ON)(models)


def plan(context: typer.Context) -> None:
    """What a run would do and cost: videos, hours, GB, and which videos will be refused and why."""
    hand_over("stages.engine.plan_report", context.args)


def doctor(context: typer.Context) -> None:
    """What this machine can run and what is missing, with the command that mends it."""
    hand_over("stages.models.doctor", context.args)


def models(context: typer.Context) -> None:
    """Lists, installs and checks the models and their environments."""
    hand_over("stages.models", context.args)


def hand_over(module: str, arguments: list[str]) -> None:
    """Runs ``python -m MODULE`` of the checkout, in this folder, and ends with its exit code.

    Raises:
        ConfigError: this folder is in no checkout of videolift, and neither is this package.
    """
    here = Path.cwd()
    installed_from = Path(__file__).resolve().parents[2]
    root = next((folder for folder in (here, *here.parents, installed_from) if (folder / "stages" / "registry.py").is_file()), None)
    if root is None:
        raise ConfigError(f"this command needs the backends: run it in a checkout of videolift ({here} is in none)")
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, "-m", module, *arguments], env={**os.environ, "PYTHONPATH": path}, check=False)
    raise typer.Exit(done.returncode)
