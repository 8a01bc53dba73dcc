"""What this machine can run with these settings, and what is missing: one line each, with the command that mends it.

This asks what `stages.models.preflight` asks and then starts every interpreter that is complete and loads its weights. With
``--run``, `stages.models.trial` works on the rendered sample and compares with its truth. Run as ``videolift doctor``; exit code 3
when the chosen preset cannot start.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from stages.models.options import add_config_options, config_of
from stages.models.preflight import machine_problems, no_card, of_backend
from stages.models.weights import WeightStore
from stages.registry import MODELS_ROOT, make_backend
from stages.settings import settings_for
from videolift.config import Config, StageBlock, user_path
from videolift.errors import BackendUnavailable, ExitCode, OutOfMemory, VideoliftError
from videolift.inputs.video import Video
from videolift.pool import devices_for, find_devices
from videolift.stage_table import STAGES


@dataclass(frozen=True)
class MachineCheck:
    """One line of the answer.

    Attributes:
        part: what was looked at.
        state: ok; note, for people; missing, which stops the chosen preset.
        text: what was found, or what is wrong with the command to type.
    """

    part: str
    state: Literal["ok", "note", "missing"]
    text: str

    def line(self) -> str:
        """For a terminal."""
        mark = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}[self.state]
        first, *rest = self.text.splitlines() or [""]
        return "\n".join([f"{mark}  {self.part:22}  {first}", *(" " * 33 + line for line in rest)])


def check_machine(config: Config, root: Path = MODELS_ROOT, *, load: bool = True) -> list[MachineCheck]:
    """Looks at the machine and at the backends of the chosen preset.

    Args:
        config: whose preset, backends and folders.
        root: what the folders of models are relative to.
        load: also start the models' interpreters and load their weights.
    """
    memory, cores = psutil.virtual_memory().total / 2**30, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    said = f"Python {sys.version.split()[0]}, {cores or os.cpu_count()} cores, {memory:.0f} GB of memory"
    output = user_path(config.output).absolute()
    # The folder may not be there yet; its disk is that of the nearest one that is.
    there = next(folder for folder in (output, *output.parents) if folder.exists())
    free = f"{shutil.disk_usage(there).free / 1e9:.0f} GB free at {there}"
    checks = [MachineCheck("machine", "ok", said), MachineCheck("disk", "ok", free)]
    why = no_card()
    if why is not None:
        checks.append(MachineCheck("card", "note", why))
    for card in find_devices("cuda") if why is None else ():
        checks.append(MachineCheck("card", "ok", f"{card.name}, {card.memory_bytes / 2**30:.0f} GB, {card.id}"))
    # An empty row: what presets and settings alone decide, without files of a video's own.
    blocks = settings_for(config, Video("", ""))
    for stage in STAGES:
        block = blocks[stage]
        if block.backend == "none":
            checks.append(MachineCheck(stage, "ok", "none: left out"))
        else:
            checks += _backend(stage, block, root, load)
    return checks


def _backend(stage: str, block: StageBlock, root: Path, load: bool) -> Iterator[MachineCheck]:
    backend = make_backend(stage, block)
    part = f"{stage}: {backend.name}"
    lacking = [*of_backend(backend, block, root, built_later=True), *machine_problems(backend, block, root, building=True)]
    store = WeightStore(root, block.models_dir)
    for name in backend.weights:
        digest = store.sha256(name)
        if digest is not None and store.problem(name) is None:
            yield MachineCheck(part, "ok", f"{name}  sha256 {digest}")
    for name, override in backend.checkouts.items():
        try:
            folder = store.checkout(backend.name, name, override)
        except BackendUnavailable:
            continue  # said by the preflight
        commit = store.models()[backend.name].checkouts[name].commit[:12]
        where = f"at {commit}" if override is None else f"in {folder}, yours; tested with {commit}"
        yield MachineCheck(part, "ok", f"{name} {where}")
    device = None
    try:
        device = devices_for(backend.device)[0]
    except BackendUnavailable:
        # Without a card the rest is still listed, so that one look names everything.
        lacking.append(no_card() or "no card")
    for line in lacking:
        yield MachineCheck(part, "missing", line)
    # What the workflow builds by itself is a note, no fault.
    unbuilt = of_backend(backend, block, root) if not lacking else []
    for line in unbuilt:
        yield MachineCheck(part, "note", f"{line} (or let the first run do it)")
    if not lacking and not unbuilt and device is not None:
        check = MachineCheck(part, "ok", "complete; not started")
        if load:
            try:
                backend.load(device)
                about = {k: v for k, v in backend.about.items() if k != "protocol" and isinstance(v, (str, int, float))}
                said = "".join(f", {name} {value}" for name, value in about.items())
                check = MachineCheck(part, "ok", f"starts on {device.name}, version {backend.version} of the backend{said}")
            except (BackendUnavailable, OutOfMemory) as error:
                check = MachineCheck(part, "missing", str(error))
            finally:
                # Before the next one is loaded: two models may not fit on one card.
                backend.close()
        yield check


def doctor_parser() -> argparse.ArgumentParser:
    """The options of ``videolift doctor``."""
    parser = argparse.ArgumentParser(prog="videolift doctor", description="What this machine can run, and what is missing.")
    add_config_options(parser)
    parser.add_argument("--run", action="store_true", help="also work on the rendered sample and compare with its truth")
    return parser


def doctor_command(arguments: Sequence[str] | None = None) -> int:
    """``videolift doctor``; the exit code."""
    options = doctor_parser().parse_args(arguments)
    try:
        config = config_of(options)
        checks = check_machine(config)
        print("\n".join(check.line() for check in checks), flush=True)
        if any(check.state == "missing" for check in checks):
            print(f"preset {config.preset} cannot start here; see MISSING above")
            return int(ExitCode.BACKEND)
        if options.run:
            from stages.models.trial import try_out

            return try_out(config)
    except VideoliftError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    print(f"preset {config.preset} can start here")
    return int(ExitCode.OK)


if __name__ == "__main__":
    sys.exit(doctor_command())
