"""What a run's backends lack before any work: environments, checkouts, weights, a card. Cheap; starts no interpreter.

Asked when a run is planned and again when a job starts; jobs never build or download. Every line ends with the command to type or
the setting to change. Whether the models then really load is for `stages.models.doctor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from stages.backend import Backend
from stages.models.environments import interpreter, is_built, read_environment
from stages.models.requirements import build_problems, card_problems, this_machine
from stages.models.weights import WeightStore
from stages.registry import MODELS_ROOT, make_backend
from videolift.config import StageBlock, user_path
from videolift.errors import BackendUnavailable
from videolift.pool import find_devices


def missing(
    blocks: Iterable[tuple[str, StageBlock]], *, root: Path = MODELS_ROOT, cards: bool = True, built_later: bool = False
) -> list[str]:
    """What is missing, one line each, in the order of the stages; empty if everything is there.

    Args:
        blocks: stage and its settings as `stages.settings.settings_for` resolves them; repeated ones are asked once.
        root: what the folders of models are relative to.
        cards: whether a card must be visible here; False on a cluster's head node.
        built_later: environments that the workflow itself builds before its jobs may be missing.
    """
    lines: dict[str, None] = {}
    needs_card = False
    for stage, block in blocks:
        if block.backend == "none":
            continue
        backend = make_backend(stage, block)
        needs_card |= backend.device == "cuda"
        # A head node has no card; its driver says nothing about the drivers of the compute nodes.
        unfit = machine_problems(backend, block, root) if cards and backend.device != "cpu" else []
        for line in [*of_backend(backend, block, root, built_later=built_later), *unfit]:
            # Two variants may lack the same; a person reads it once.
            lines.setdefault(f"{stage} ({backend.name}): {line}")
    if needs_card and cards and (why := no_card()):
        lines.setdefault(why)
    return list(lines)


def of_backend(backend: Backend, block: StageBlock, root: Path, *, built_later: bool = False) -> list[str]:
    """What one backend lacks besides a card."""
    lines = [
        f"{name} is not installed: pip install {name}, or choose another backend where it has no wheel (Linux on ARM)"
        for name in backend.packages
        if find_spec(name) is None
    ]
    if backend.env is not None and not (built_later and backend.builds_env):
        lines += _refusal(partial(interpreter, backend.env, envs_dir=_envs_dir(block, root), override=backend.python))
    store = WeightStore(root, block.models_dir)
    for name, override in backend.checkouts.items():
        lines += _refusal(partial(store.checkout, backend.name, name, override))
    return lines + [problem for name in backend.weights if (problem := store.problem(name))]


def machine_problems(backend: Backend, block: StageBlock, root: Path, *, building: bool = False) -> list[str]:
    """Why the backend's environment would not run on this machine's cards; with ``building`` also why it could not be built here
    while it is not. Nothing for an interpreter of the user's."""
    # What the user brought may well have another torch than the one we pin.
    if backend.env is None or backend.python is not None:
        return []
    environment, envs_dir = read_environment(backend.env), _envs_dir(block, root)
    building = building and not is_built(environment.folder(envs_dir))
    machine = this_machine(envs_dir, compiles=building and bool(environment.from_source))
    return [*card_problems(environment, machine), *(build_problems(environment, machine) if building else ())]


def no_card() -> str | None:
    """Why no card can be used here; None if one can."""
    refused = _refusal(partial(find_devices, "cuda"))
    return refused[0] if refused else None


def _envs_dir(block: StageBlock, root: Path) -> Path:
    return root / user_path(block.envs_dir)


def _refusal(ask: Callable[[], object]) -> list[str]:
    try:
        ask()
    except BackendUnavailable as error:
        return [str(error)]
    return []
