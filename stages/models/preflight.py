"""What a run's backends lack before any work: environments, checkouts, weights, a card. Cheap; starts no interpreter.

Asked when a run is planned and again when a job starts; jobs never build or download. Every line ends with the command to type or
the setting to change. Whether the models then really load is for `stages.models.doctor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from stages.backend import Backend
from stages.models.environments import interpreter
from stages.models.weights import WeightStore
from stages.registry import ROOT, make_backend
from videolift.config import StageBlock
from videolift.errors import BackendUnavailable
from videolift.pool import find_devices


def missing(
    blocks: Iterable[tuple[str, StageBlock]], *, root: Path = ROOT, cards: bool = True, built_later: bool = False
) -> list[str]:
    """What is missing, one line each, in the order of the stages; empty if everything is there.

    Args:
        blocks: stage and its settings as `stages.settings.settings_for` resolves them; repeated ones are asked once.
        root: the checkout.
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
        for line in of_backend(backend, block, root, built_later=built_later):
            lines.setdefault(f"{stage} ({backend.name}): {line}")
    if needs_card and cards and (why := no_card()):
        lines.setdefault(why)
    return list(lines)


def of_backend(backend: Backend, block: StageBlock, root: Path, *, built_later: bool = False) -> list[str]:
    """What one backend lacks besides a card."""
    lines = []
    if backend.env is not None and not (built_later and backend.builds_env):
        lines += _refusal(partial(interpreter, backend.env, envs_dir=_envs_dir(block, root), override=backend.python))
    store = WeightStore(root, block.models_dir)
    for name, override in backend.checkouts.items():
        lines += _refusal(partial(store.checkout, backend.name, name, override))
    return lines + [problem for name in backend.weights if (problem := store.problem(name))]


def no_card() -> str | None:
    """Why no card can be used here; None if one can."""
    refused = _refusal(partial(find_devices, "cuda"))
    return refused[0] if refused else None


def _envs_dir(block: StageBlock, root: Path) -> Path:
    return root / Path(block.envs_dir).expanduser()


def _refusal(ask: Callable[[], object]) -> list[str]:
    try:
        ask()
    except BackendUnavailable as error:
        return [str(error)]
    return []
