"""Backends by name. A backend is the ``BACKEND`` class of ``stages/{stage}/{name}.py``; nothing else registers it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from stages.backend import Backend
from videolift.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def available(stage: str) -> list[str]:
    """Names of a stage's backends; reads the folder, imports nothing."""
    files = (ROOT / "stages" / stage).glob("*.py")
    return sorted(f.stem for f in files if not f.stem.startswith("_") and "\nBACKEND = " in "\n" + f.read_text(encoding="utf-8"))


def backend_class(stage: str, name: str) -> type[Backend]:
    """The backend class of a stage.

    Raises:
        ConfigError: no such backend; names those there are.
    """
    if not _NAME.fullmatch(name) or name not in available(stage):
        names = ", ".join([*available(stage), "none"])
        raise ConfigError(f"{stage}.backend is {name!r}: there is no such backend, use one of {names}, or preset")
    backend: type[Backend] = importlib.import_module(f"stages.{stage}.{name}").BACKEND
    return backend


def make_backend(stage: str, block: Any) -> Backend:
    """The backend that a stage's resolved settings name, not loaded."""
    return backend_class(stage, block.backend)(block, root=ROOT)


def identity(stage: str, block: Any) -> dict[str, Any] | None:
    """What of a backend and its settings enters a fingerprint; None for a stage set to ``none``."""
    if block.backend == "none":
        return None
    backend = make_backend(stage, block)
    return {"name": backend.name, "version": backend.version, **backend.identity()}
