"""``videolift run VIDEOS``: the snakemake command with its long words filled in; other options go to it as they are."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from stages.models.options import add_config_options
from stages.registry import ROOT

_NOT_HERE = ("--workflow-profile", "--executor", "-e", "--profile")
"""Options that may send jobs elsewhere: there this machine's cores are no measure of a job."""


def run_parser() -> argparse.ArgumentParser:
    """The options of ``videolift run``."""
    parser = argparse.ArgumentParser(
        prog="videolift run",
        description="Lifts VIDEOS into a dataset, or goes on where it stopped. Other options go to snakemake as they are; -n shows "
        "what would be done and what it would cost.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "videos", metavar="VIDEOS", help="a folder (recursive), a CSV, or `sample` for rendered clips; stands first"
    )
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="folder of everything a run writes; by default that of config.yaml"
    )
    parser.add_argument("-c", "--cores", metavar="N", help="cores to use; by default all")
    parser.add_argument(
        "--workflow-profile", metavar="FOLDER", help="a Snakemake profile; profiles/slurm comes along (docs/slurm.md)"
    )
    add_config_options(parser)
    return parser


def snakemake_command(arguments: Sequence[str]) -> list[str]:
    """The command that ``videolift run ARGUMENTS`` stands for."""
    # What we do not know is snakemake's, so that all of its options work here too.
    options, others = run_parser().parse_known_args(arguments)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    if options.workflow_profile is not None:
        shipped = ROOT / options.workflow_profile
        # A folder of the user's of that name goes first.
        is_shipped = not Path(options.workflow_profile).exists() and shipped.is_dir()
        command += ["--workflow-profile", str(shipped) if is_shipped else options.workflow_profile]
    if options.cores is not None or options.workflow_profile is None and not any(word in _NOT_HERE for word in others):
        command += ["--cores", options.cores or "all"]
    if options.config_file != Path("config.yaml"):
        command += ["--configfile", str(options.config_file)]
    folders = {"videos": options.videos} | ({"output": options.output} if options.output is not None else {})
    settings = []
    for name, path in folders.items():
        # In a form that Snakemake keeps as text: it would take a folder 2024 for a number, and `a: b` for a mapping.
        try:
            is_plain = isinstance(yaml.safe_load(path), str)
        except yaml.YAMLError:
            is_plain = False
        settings.append(f"{name}={path if is_plain else json.dumps(os.path.join('.', path), ensure_ascii=False)}")
    return [*command, *others, "--config", *settings, *options.config]


def run_command(arguments: Sequence[str]) -> None:
    """Says the command and becomes it, so that signals and the exit code are snakemake's own."""
    command = snakemake_command(arguments)
    print(shlex.join(["snakemake", *command[3:]]), file=sys.stderr, flush=True)
    os.execv(command[0], command)


if __name__ == "__main__":
    run_command(sys.argv[1:])
