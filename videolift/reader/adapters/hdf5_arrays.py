"""Any HDF5 file whose arrays share their first axis: keys and shapes are named by the user, a row is a sample."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from videolift.errors import ConfigError
from videolift.reader.adapters.lazy_hdf5 import LazyHdf5
from videolift.reader.frames import Sample


class Hdf5Arrays:
    """Rows of a file's arrays.

    Args:
        path: of the file.
        keys: name in the sample to name in the file, e.g. ``{"rgb": "observations/images/top"}``.
        shapes: what a row of some of them must look like, by name in the sample; None along an axis is any length.

    Raises:
        ConfigError: arrays that are not there, differ in length or have other shapes.
        CorruptFile: the file cannot be read.
    """

    def __init__(self, path: Path, keys: Mapping[str, str], shapes: Mapping[str, tuple[int | None, ...]] | None = None) -> None:
        self.path, self.keys = Path(path), dict(keys)
        self._file = LazyHdf5(self.path)
        opened, lengths = self._file.open(), {}
        for name, key in self.keys.items():
            dataset = opened.get(key)
            if not isinstance(dataset, h5py.Dataset):
                raise ConfigError(f"{path} has no array {key}; it has {', '.join(array_names(opened)) or 'none'}")
            lengths[key] = dataset.shape[0]
            # Now and not in a worker, where an array of another shape would fail after hours, or train something else.
            wanted = (shapes or {}).get(name)
            row = dataset.shape[1:]
            if wanted is not None and (
                len(row) != len(wanted) or any(w not in (None, n) for n, w in zip(row, wanted, strict=True))
            ):
                raise ConfigError(f"{path}: a row of {key} is {row}, {name} must be {wanted}")
        if len(set(lengths.values())) != 1:
            raise ConfigError(f"{path}: arrays differ in length: {lengths}")
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return int(self._length)

    def open(self, index: int, *, epoch: int = 0) -> Sample:
        """Row ``index`` of every array.

        Raises:
            IndexError: no such row.
            CorruptFile: it cannot be read.
        """
        index = range(len(self))[index]
        return {name: np.array(self._file.read(key, index)) for name, key in self.keys.items()}


def array_names(file: h5py.File) -> list[str]:
    """Names of all arrays in a file."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names
