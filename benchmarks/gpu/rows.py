"""The rows of ``python -m benchmarks.gpu``: what each runs, what it needs, and how its answer becomes a line of the table."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Options:
    """What all rows are told.

    Attributes:
        dry: small, on a CPU.
        python: interpreter with torch and what upstream imports.
        checkouts: folder of upstream's repositories; None where there are none.
        site: more packages for ``python``.
        out: where answers go.
    """

    dry: bool
    python: str
    checkouts: Path | None
    site: Path | None
    out: Path


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        name: in the table.
        module: of benchmarks.gpu that measures it.
        arguments, dry_arguments: for a card, and small for a CPU; None: it has no dry form.
        ours: packages that our side needs.
        theirs: packages that ``python`` needs.
        checkouts: repositories that it needs.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    dry_arguments: tuple[str, ...] | None
    ours: tuple[str, ...] = ("psutil", "pydantic", "yaml", "pynvml")
    theirs: tuple[str, ...] = ()
    checkouts: tuple[str, ...] = ()


_TAPIP3D = ("torch", "torchvision", "einops", "omegaconf", "hydra", "box", "cv2", "scipy")
_WILOR = ("torch", "torchvision", "timm", "pytorch_lightning", "smplx", "yacs", "skimage", "cv2")
_MAPANYTHING = ("torch", "torchvision", "einops", "omegaconf", "timm", "safetensors", "huggingface_hub", "jaxtyping")
_SAM2 = ("torch", "torchvision", "hydra", "omegaconf", "iopath", "PIL", "tqdm")
_MODEL = ("numpy", "psutil")
_SMALL = ("--frames", "4", "--repeats", "1", "--small")
_SMALL_TAPIP3D = ["--size", "128", "160", "--points", "32", "--windows", "1", "--iterations", "1", "--repeats", "1"]

ROWS = (
    Row("machine", "machine", (), (), ours=("psutil", "pynvml")),
    Row("limits", "limits", (), (), ours=_MODEL, theirs=("torch",)),
    Row("pool: oom", "pool", ("oom",), ("oom",)),
    Row("pool: foreign", "pool", ("foreign",), None),
    Row("pool: sticky", "pool", ("sticky",), None),
    Row("pool: orphan", "pool", ("orphan",), None),
    Row("pool: mask", "pool", ("mask",), ("mask",)),
    Row("tapip3d: fp32", "tapip3d", ("--windows", "32"), (*_SMALL_TAPIP3D,), _MODEL, _TAPIP3D, ("TAPIP3D",)),
    Row("tapip3d: bf16", "tapip3d", ("--windows", "32", "--precision", "bf16"), None, _MODEL, _TAPIP3D, ("TAPIP3D",)),
    Row("moge", "moge", ("--frames", "64"), _SMALL, _MODEL, ("torch",), ("MoGe", "utils3d")),
    Row(
        "mapanything",
        "mapanything",
        (),
        ("--frames", "3", "--repeats", "1", "--small"),
        _MODEL,
        _MAPANYTHING,
        ("map-anything", "UniCeption", "dinov2"),
    ),
    Row("wilor", "wilor", ("--frames", "64"), _SMALL, _MODEL, _WILOR, ("WiLoR",)),
    Row("sam2", "sam2", (), _SMALL, _MODEL, _SAM2, ("sam2",)),
    Row(
        "tapip3d: memory by length",
        "tapip3d",
        ("--windows", "16", "128", "512", "--repeats", "1"),
        None,
        _MODEL,
        _TAPIP3D,
        ("TAPIP3D",),
    ),
    Row(
        "line",
        "line",
        (),
        ("--frames", "12", "--small"),
        (*_MODEL, "h5py", "hdf5plugin", "cv2", "av"),
        (*dict.fromkeys((*_TAPIP3D, *_WILOR, "ultralytics")),),
        ("MoGe", "utils3d", "TAPIP3D", "WiLoR"),
    ),
    Row("vipe: memory by formula", "vipe_memory", (), (), ours=()),
    Row("pool: numbers", "pool", ("numbers",), None),
)
"""In order of value: what comes first is what a short loan of a card must answer."""


@dataclass(frozen=True)
class RowResult:
    """What a row answered.

    Attributes:
        state: ok; wrong, by its own words or its exit code; skipped, something is missing; late, its time was up.
        lines: what it printed, at most the last 60 lines.
    """

    name: str
    state: Literal["ok", "wrong", "skipped", "late"]
    seconds: float
    lines: list[str] = field(default_factory=list)


def run_rows(rows: Sequence[Row], options: Options, seconds: float) -> int:
    """Runs them within ``seconds``; 1 if one was wrong."""
    options.out.mkdir(parents=True, exist_ok=True)
    ends, results = time.monotonic() + seconds, []
    for row in rows:
        result = run_row(row, options, ends - time.monotonic())
        results.append(result)
        print(f"{result.state:8} {row.name:28} {result.seconds:7.1f} s  {result.lines[-1] if result.lines else ''}", flush=True)
        # After each row: what was measured is there although a later one ends the run.
        figures = json.dumps([asdict(one) for one in results], indent=1)
        (options.out / "figures.json").write_text(figures + "\n", encoding="utf-8")
        lines = ["| row | state | s | says |", "|---|---|---|---|"]
        lines += [f"| {r.name} | {r.state} | {r.seconds:.0f} | {'<br>'.join(r.lines[-12:]).replace('|', '/')} |" for r in results]
        (options.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any(result.state == "wrong" for result in results))


def run_row(row: Row, options: Options, seconds: float) -> RowResult:
    """One row in a process group of its own, ended with all its children when its time is up."""
    lacks = lacking(row, options)
    if lacks or seconds < 1:
        return RowResult(row.name, "skipped", 0.0, [lacks or "no time left"])
    began = time.monotonic()
    process = subprocess.Popen(
        command_of(row, options),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
        state: Literal["ok", "wrong", "late"] = "wrong" if process.returncode or "WRONG" in said else "ok"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, state = process.communicate()[0], "late"
    return RowResult(row.name, state, time.monotonic() - began, said.splitlines()[-60:])


def command_of(row: Row, options: Options) -> list[str]:
    """What a row runs."""
    arguments = list((row.dry_arguments if options.dry else row.arguments) or ())
    if row.module == "pool" and options.dry:
        arguments.append("--dry")
    if row.checkouts or row.module == "limits":
        arguments += ["--python", options.python, "--device", "cpu" if options.dry else "cuda:0"]
        if options.checkouts is not None:
            arguments += ["--checkouts", str(options.checkouts.resolve())]
        if options.site is not None:
            arguments += ["--site", str(options.site.resolve())]
    return [sys.executable, "-m", f"benchmarks.gpu.{row.module}", *arguments]


def lacking(row: Row, options: Options) -> str:
    """Why a row cannot run here, by name; empty if it can."""
    if options.dry and row.dry_arguments is None:
        return "only on a card"
    ours = [name for name in row.ours if importlib.util.find_spec(name) is None]
    if ours:
        return f"{sys.executable} lacks {', '.join(ours)}"
    checkouts = [name for name in row.checkouts if options.checkouts is None or not (options.checkouts / name).is_dir()]
    if checkouts:
        return f"no checkout of {', '.join(checkouts)}: --checkouts"
    theirs = _modules_missing(options, row.theirs)
    return f"{options.python} lacks {', '.join(theirs)}: --python" if theirs else ""


def _modules_missing(options: Options, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    code = (
        "import importlib.util as u, sys; sys.path.append(sys.argv[1]); print(*(n for n in sys.argv[2:] if u.find_spec(n) is None))"
    )
    asked = subprocess.run(
        [options.python, "-I", "-c", code, str(options.site or ""), *names], capture_output=True, text=True, check=False
    )
    return asked.stdout.split() if asked.returncode == 0 else list(names)
