"""Licences and models credited on the dataset card: the models behind it with version and weights, the licences that bind it.

Turns the backends that receipts name into the card's rows, by `thirdparty/models.yaml`. A backend that runs no model (structure
from motion, flow) is ours and has no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stages.models.weights import read_models


def licences_for_card(backends: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, list[dict[str, str]]]:
    """``licences`` and ``models`` of `videolift.dataset.card`, each row once, in a fixed order.

    Args:
        backends: stage and backend identity, as receipts state them (``name``, ``version``, ``weights`` where there are any).
    """
    entries = read_models()
    licences: dict[tuple[str, ...], dict[str, str]] = {}
    models: dict[tuple[str, ...], dict[str, str]] = {}
    for stage, backend in backends:
        name = str(backend.get("name"))
        # A backend of ours, or of the user's own: it runs no model that we know the licence of.
        if name not in entries:
            continue
        weights = ", ".join(str(digest)[:12] for digest in backend.get("weights", ()))
        row = {"name": name, "version": str(backend.get("version")), "weights": weights}
        models[tuple(row.values())] = row
        for part, licence in (("code", entries[name].licence_code), ("weights", entries[name].licence_weights)):
            bound = {"name": f"{name}, {part}", "licence": licence, "of": stage}
            licences[tuple(bound.values())] = bound
    return {"licences": [licences[key] for key in sorted(licences)], "models": [models[key] for key in sorted(models)]}
