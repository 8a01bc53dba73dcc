"""Commands that need the backends: they run in the checkout this command stands in, else in what was installed with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import typer

from videolift.errors import ConfigError
from videolift.interrupts import hold_interrupts

# The program behind it answers `--help` too.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    app.command("run", context_settings=_PASS_ON)(run)
    app.command("plan", context_settings=_PASS_ON)(plan)
    app.command("doctor", context_settings=_PASS_ON)(doctor)
    app.command("models", context_settings=_PASS_ON)(models)


def run(context: typer.Context) -> None:
    """Lifts a folder of videos into a dataset, or goes on where it stopped; the same as snakemake in a checkout."""
    hold_interrupts()  # until the workflow can say in a sentence what they have interrupted (`Session.start`)
    hand_over("stages.snakemake_command", context.args)


def plan(context: typer.Context) -> None:
    """What a run would do and cost: videos, hours, GB, and which videos will be refused and why."""
    hand_over("stages.engine.plan_report", context.args)


def doctor(context: typer.Context) -> None:
    """What this machine can run and what is missing, with the command that fixes it."""
    hand_over("stages.models.doctor", context.args)


def models(context: typer.Context) -> None:
    """Lists, installs and checks the models and their environments."""
    hand_over("stages.models", context.args)


def hand_over(module: str, arguments: list[str]) -> NoReturn:
    """Becomes ``python -m MODULE`` of the workflow, in this folder; signals go to it, and the exit code is its own.

    Raises:
        ConfigError: this folder is not in a checkout of videolift, and this package came without the workflow.
    """
    here, package = Path.cwd(), Path(__file__).resolve().parents[1]
    # A checkout goes before the installed package: a user who stands in one works on it.
    roots = (here, *here.parents, package.parent, package / "_workflow")
    root = next((folder for folder in roots if (folder / "stages" / "registry.py").is_file()), None)
    if root is None:
        raise ConfigError(f"this command needs the backends, which are not beside {package}: install videolift again")
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    # It takes this process's place: Ctrl-C then reaches one process, which stops in its own way.
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], {**os.environ, "PYTHONPATH": path})
