"""What a run's backends lack before any work: environments, checkouts, weights, a card. Cheap; starts no interpreter.

Asked when a run is planned and again when a job starts; jobs never build or download. Every line ends with the command to type or
the setting to change. Whether the models then really load is for `stages.models.doctor`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from stages.models.environments import interpreter
from stages.models.weights import WeightStore
from stages.registry import ROOT, make_backend
from videolift.config import StageBlock
from videolift.errors import BackendUnavailable
from videolift.pool import find_devices


def missing(
    blocks: Iterable[tuple[str, StageBlock]], *, root: Path = ROOT, cards: bool = True, built_later: Collection[str] = ()
) -> list[str]:
    """What is missing, one line each, in the order of the stages; empty if everything is there.

    Args:
        blocks: stage and its settings as `videolift.config.Config.for_video` resolves them; repeated ones are asked once.
        root: the checkout.
        cards: whether a card must be visible here; False on a cluster's head node.
        built_later: environments that the workflow itself builds before its jobs.
    """
    lines: dict[str, None] = {}
    needs_card = False
    for stage, block in blocks:
        if block.backend == "none":
            continue
        backend: Any = make_backend(stage, block)
        needs_card |= backend.device == "cuda"
        for line in of_backend(backend, block, root, built_later):
            lines.setdefault(f"{stage} ({backend.name}): {line}")
    if needs_card and cards and (why := no_card()):
        lines.setdefault(why)
    return list(lines)


def of_backend(backend: Any, block: StageBlock, root: Path, built_later: Collection[str] = ()) -> list[str]:
    """What one backend lacks besides a card."""
    lines = []
    own = getattr(block, backend.name, None)
    if backend.env is not None and backend.env not in built_later:
        lines += _refusal(lambda: interpreter(backend.env, envs_dir=_envs_dir(block, root), override=getattr(own, "python", None)))
    store = WeightStore(root, block.models_dir)
    for name, override in getattr(backend, "checkouts", {}).items():
        lines += _refusal(lambda name=name, override=override: store.checkout(backend.name, name, override))
    return lines + [problem for name in getattr(backend, "weights", ()) if (problem := store.problem(name))]


def no_card() -> str | None:
    """Why no card can be used here; None if one can."""
    refused = _refusal(lambda: find_devices("cuda"))
    return refused[0] if refused else None


def _envs_dir(block: StageBlock, root: Path) -> Path:
    return root / Path(block.envs_dir).expanduser()


def _refusal(ask: Any) -> list[str]:
    try:
        ask()
    except BackendUnavailable as error:
        return [str(error)]
    return []
