"""A mixture written down: a YAML list of datasets with name, path and weight."""

from __future__ import annotations

from pathlib import Path

import yaml

from videolift.errors import ConfigError
from videolift.reader.adapters import open_samples
from videolift.reader.mixing.mixture import Ingredient, Mixture, MixtureMode
from videolift.reader.normalization import Normalization
from videolift.reader.samples import WindowDataset
from videolift.reader.selection import Selection

_KEYS = {"name", "path", "weight", "split", "group", "options", "measure"}


def read_mixture(
    path: Path | str, *, selection: Selection | None = None, mode: MixtureMode = "weighted", normalize: bool = True, seed: int = 0
) -> Mixture:
    """The mixture that a YAML list of ``{name, path, weight}`` describes; paths are relative to the file.

    Args:
        path: of the file. Entries may also have ``split`` and ``group`` (of our datasets), ``options`` (of an adapter) and
            ``measure``: arrays to normalize by statistics that are measured now (`Normalization.measure`).
        selection: for our datasets.
        mode: see `Mixture`.
        normalize: by each dataset's own statistics, where it has any.
        seed: of the order.

    Raises:
        ConfigError: entries that make no sense, or files that no adapter fits.
    """
    path = Path(path)
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{path} must be a list of {{name, path, weight}}")
    ingredients = []
    for number, entry in enumerate(entries):
        unknown = set(entry) - _KEYS
        if unknown or not {"name", "path"} <= set(entry):
            raise ConfigError(
                f"{path}, entry {number}: keys are {sorted(entry)}, it needs name and path and may have {sorted(_KEYS)}"
            )
        location, options = path.parent / entry["path"], dict(entry.get("options", {}))
        if (location / "dataset.json").is_file():  # other projects' files have neither splits nor our selection
            options |= {name: entry[name] for name in ("split", "group") if name in entry}
            options["selection"] = selection
        source = open_samples(location, **options)
        normalization = None
        if normalize and "measure" in entry:
            normalization = Normalization.measure(source, entry["measure"])
        elif normalize and isinstance(source, WindowDataset) and source.folder is not None:
            normalization = Normalization.fit(source)
        ingredients.append(Ingredient(entry["name"], source, float(entry.get("weight", 1.0)), normalization))
    return Mixture(ingredients, mode=mode, seed=seed)
