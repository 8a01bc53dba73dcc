"""Which licences the person at this machine has accepted. Kept in their own folder: nothing that is committed or shared accepts for
another. A licence whose text changed is asked for again."""

from __future__ import annotations

import os
from pathlib import Path

from stages.models.weights import ModelEntry
from videolift.store import read_json, sha256_of, write_json


def acceptance_file() -> Path:
    """``videolift/licences.json`` below XDG_CONFIG_HOME, or below ``~/.config``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "videolift" / "licences.json"


def is_accepted(model: ModelEntry) -> bool:
    """True if this person accepted just these licences of the model."""
    accepted = read_json(acceptance_file())
    return isinstance(accepted, dict) and accepted.get(model.name) == _terms_of(model)


def accept(model: ModelEntry) -> None:
    """Remembers that they did."""
    accepted = read_json(acceptance_file())
    write_json(acceptance_file(), {**(accepted if isinstance(accepted, dict) else {}), model.name: _terms_of(model)})


def licence_text(model: ModelEntry) -> str:
    """What the user is shown before anything is fetched."""
    return f"{model.name}\n  code:    {model.licence_code}\n  weights: {model.licence_weights}\n  {model.terms}"


def _terms_of(model: ModelEntry) -> str:
    return sha256_of(licence_text(model))
