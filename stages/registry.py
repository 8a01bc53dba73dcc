"""Backends by name: the ``BACKEND`` class of ``stages/{stage}/{name}.py``, or of a file of the user's named by its path."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from videolift.config import StageBlock, user_path
from videolift.errors import ConfigError
from videolift.stage_table import NONE

if TYPE_CHECKING:  # it imports all that artifacts need, and listing or naming backends needs none of that
    from stages.backend import Backend

ROOT = Path(__file__).resolve().parent.parent
"""Where the workflow's own files lie: the checkout, or ``videolift/_workflow`` of an installed wheel."""
INSTALLED = ROOT.name == "_workflow"
MODELS_ROOT = user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "videolift" if INSTALLED else ROOT
"""What the folders of models and of their environments are relative to; a wheel's own folder may be read-only, and is replaced."""
# So that a name from a configuration is never a path.
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@cache
def available(stage: str) -> tuple[str, ...]:
    """Names of a stage's backends; reads the folder, imports nothing."""
    files = (ROOT / "stages" / stage).glob("*.py")
    return tuple(sorted(f.stem for f in files if "\nBACKEND = " in "\n" + f.read_text(encoding="utf-8")))


def backend_class(stage: str, name: str) -> type[Backend]:
    """The backend class of a stage.

    Args:
        name: a name, or the path of a Python file ending in ``.py``.

    Raises:
        ConfigError: no such backend; names those there are.
    """
    if name.endswith(".py"):
        return _from_file(stage, user_path(name).resolve())
    if not _NAME.fullmatch(name) or name not in available(stage):
        names = ", ".join([*available(stage), NONE])
        raise ConfigError(
            f"{stage}.backend is {name!r}: there is no such backend, use one of {names}, preset, or a file ending in .py"
        )
    return _checked(stage, name, importlib.import_module(f"stages.{stage}.{name}"))


@cache
def _from_file(stage: str, path: Path) -> type[Backend]:
    # A name of its own in sys.modules: a user's file may be called like one of ours.
    spec = importlib.util.spec_from_file_location(f"videolift_backend_{stage}_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{stage}.backend is {path}: there is no such file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return _checked(stage, str(path), module)


def _checked(stage: str, name: str, module: ModuleType) -> type[Backend]:
    from stages.backend import Backend

    kind = getattr(module, "BACKEND", None)
    # Here and not later: a wrong class would fail in a worker, once per video.
    if not (isinstance(kind, type) and issubclass(kind, Backend)):
        raise ConfigError(f"{stage}.backend is {name}: its BACKEND must be a class derived from stages.backend.Backend")
    return kind


def make_backend(stage: str, block: StageBlock) -> Backend:
    """The backend that a stage's settings for a video name, not loaded."""
    return backend_class(stage, block.backend)(block, root=MODELS_ROOT)


def identity(stage: str, block: StageBlock) -> dict[str, Any] | None:
    """What of a backend and its settings enters a fingerprint; None for a stage set to ``none``."""
    if block.backend == NONE:
        return None
    backend = make_backend(stage, block)
    return {"name": backend.name, "version": backend.version, **backend.identity()}
