"""A model's process: the interpreter of its environment, on the pool's device, offline, ready for `Isolated.load`.

What all backends with an environment of their own share. The model, its weights and its arrays are the backend's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.environments import interpreter
from stages.shelf import Shelf
from videolift.config import StageBlock
from videolift.errors import BackendUnavailable
from videolift.isolation import Isolated
from videolift.pool import Device

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "WANDB_MODE": "offline",
}
"""A job never downloads; whatever is missing is named instead."""


def model_process(
    env: str,
    worker: Path,
    device: Device,
    *,
    block: StageBlock,
    root: Path,
    python: str | None,
    variables: dict[str, str] | None = None,
) -> Isolated:
    """The process of one model, not yet started.

    Args:
        env: name of its environment.
        worker: the file that runs in it.
        device: what the pool gave; a card becomes the child's only visible one.
        block: the stage's settings, for ``envs_dir``.
        root: the checkout.
        python: an interpreter of the user's instead.
        variables: more of them.

    Raises:
        BackendUnavailable: the environment is not built; ends with the command to type.
    """
    path = interpreter(env, envs_dir=root / Path(block.envs_dir).expanduser(), override=python)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(device.threads))
    card = {"CUDA_VISIBLE_DEVICES": device.id if device.kind == "cuda" else ""}
    return Isolated(path, worker, env={**OFFLINE, **threads, **card, **(variables or {})})


def require_weights(shelf: Shelf, names: Sequence[str]) -> list[Path]:
    """Where the weights lie.

    Raises:
        BackendUnavailable: one is missing or is not what it was; ends with the command to type.
    """
    problems = [problem for name in names if (problem := shelf.problem(name))]
    if problems:
        raise BackendUnavailable("\n".join(problems))
    return [shelf.path(name) for name in names]


def weights_identity(shelf: Shelf, names: Sequence[str]) -> list[str | None]:
    """SHA-256 of each weight, wherever it lies; None where it is missing, so that a plan can be made without it."""
    return [shelf.sha256(name) for name in names]


def torch_device(device: Device) -> str:
    """What torch calls the device inside the child."""
    return "cuda:0" if device.kind == "cuda" else "cpu"
