"""What the benchmarks of this folder share: their arguments, the models' processes, ours beside upstream's alone."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from benchmarks.timing import in_turns, times_faster
from videolift.isolation import Isolated

ROOT = Path(__file__).resolve().parents[2]
BARE = Path(__file__).with_name("bare.py")


def arguments(text: str, model: str | None) -> argparse.ArgumentParser:
    """A parser with what all of them take; without a model no checkouts."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--checkouts", type=Path, required=model is not None, help="folder with upstream's checkouts")
    parser.add_argument("--python", help="interpreter, instead of the model's built environment")
    parser.add_argument("--site", type=Path, help="folder of more packages for that interpreter")
    parser.add_argument("--device", default="cuda:0", help="cuda:0 or cpu")
    parser.add_argument("--repeats", type=int, default=7)
    return parser


def child(options: argparse.Namespace, env: str | None, worker: Path) -> Isolated:
    """A process of a model's interpreter, not started."""
    python = options.python
    if python is None:
        from stages.models.environments import interpreter  # a bundle's machine has no uv, and names its interpreter

        assert env is not None
        python = interpreter(env, envs_dir=ROOT / "thirdparty" / "envs")
    card = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} if options.device == "cpu" else {}
    return Isolated(python, worker, env={"HF_HUB_OFFLINE": "1", "YOLO_OFFLINE": "true", **card})


def paths(options: argparse.Namespace, *names: str) -> list[str]:
    """What goes on the interpreter's path: checkouts, then more packages."""
    return [str(options.checkouts / name) for name in names] + ([str(options.site)] if options.site is not None else [])


def seconds_of(process: Isolated, device: str, work: Callable[[], object]) -> float:
    """Wall seconds on a card; without one the CPU seconds of the child, which a busy machine does not change."""
    assert process.pid is not None
    before, began = psutil.Process(process.pid).cpu_times(), time.perf_counter()
    work()
    after = psutil.Process(process.pid).cpu_times()
    return sum(after[:2]) - sum(before[:2]) if device == "cpu" else time.perf_counter() - began


def beside_upstream(
    frames: int,
    processes: tuple[Isolated, Isolated],
    ways: tuple[Callable[[], float], Callable[[], float]],
    repeats: int,
    *,
    per_frame: int = 1,
) -> None:
    """Prints how many things a second upstream's model does alone and by way of ours, and what either took of the card.

    Args:
        frames: that each way works on.
        processes: upstream's alone, ours.
        ways: seconds of one call of each, in the same order.
        repeats: see `in_turns`.
        per_frame: things in a frame, such as hands.
    """
    taken = in_turns(dict(zip(("bare", "ours"), ways, strict=True)), repeats)
    speed = {name: per_frame * frames / np.median(seconds) for name, seconds in taken.items()}
    gib = " and ".join(f"{(process.peak_bytes or 0) / 2**30:.2f} GiB" for process in processes)
    faster = times_faster(taken["bare"], taken["ours"])
    print(f"{frames} frames: bare {speed['bare']:.1f}/s, ours {speed['ours']:.1f}/s, {faster}; peak {gib}")
