"""Any HDF5 files whose arrays share their first axis: keys and shapes are named by the user, a row is a sample."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from videolift.errors import ConfigError
from videolift.reader.adapters.lazy_hdf5 import LazyHdf5
from videolift.reader.frames import Sample


class Hdf5Arrays:
    """Rows of arrays, of one file or of many alike; ``video`` names the file, or the group that ``*`` stands for.

    Args:
        path: of the file, or files in their order.
        keys: name in the sample to name in the file, e.g. ``{"rgb": "observations/images/top"}``. A part ``*`` stands for every
            group in its place, e.g. ``data/*/actions`` for the demonstrations of a file; it must be the same group in all keys.
        shapes: what a row of some of them must look like, by name in the sample; None along an axis is any length.
        channels_last: names of images that the file keeps as (..., H, W, C); a sample has them as (..., C, H, W).

    Raises:
        ConfigError: arrays that are not there, differ in length or have other shapes.
        CorruptFile: a file cannot be read.
    """

    def __init__(
        self,
        path: Path | Sequence[Path],
        keys: Mapping[str, str],
        shapes: Mapping[str, Sequence[int | None]] | None = None,
        *,
        channels_last: Collection[str] = (),
    ) -> None:
        paths = [Path(path)] if isinstance(path, (str, Path)) else [Path(one) for one in path]
        self.keys, self.channels_last = dict(keys), frozenset(channels_last)
        unknown = {*(shapes or {}), *self.channels_last} - set(self.keys)
        if unknown or not self.keys:
            raise ConfigError(f"keys name {', '.join(self.keys) or 'nothing'}, shapes or channels_last also {sorted(unknown)}")
        self._files = [LazyHdf5(one) for one in paths]
        self._parts: list[tuple[int, str]] = []
        """Number of the file, and the group that ``*`` stands for."""
        lengths = []
        for number, file in enumerate(self._files):
            opened = file.open()
            for group in _groups(file.path, opened, list(self.keys.values())):
                lengths.append(self._length(file.path, opened, group, shapes or {}))
                self._parts.append((number, group))
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def open(self, index: int, *, epoch: int = 0) -> Sample:
        """Row ``index`` of every array, counted over all files and groups.

        Raises:
            IndexError: no such row.
            CorruptFile: it cannot be read.
        """
        index = range(len(self))[index]
        part = int(np.searchsorted(self._ends, index, side="right"))
        row = index - (int(self._ends[part - 1]) if part else 0)
        number, group = self._parts[part]
        file = self._files[number]
        sample: Sample = {"video": group or file.path.stem}
        for name, key in self.keys.items():
            value = np.array(file.read(key.replace("*", group), row))
            sample[name] = np.ascontiguousarray(np.moveaxis(value, -1, -3)) if name in self.channels_last else value
        return sample

    def _length(self, path: Path, opened: h5py.File, group: str, shapes: Mapping[str, Sequence[int | None]]) -> int:
        lengths = {}
        for name, key in self.keys.items():
            dataset = opened.get(key.replace("*", group))
            if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
                raise ConfigError(f"{path} has no array {key.replace('*', group)}; it has {listed_arrays(opened)}")
            lengths[dataset.name] = dataset.shape[0]
            # Now and not in a worker, where an array of another shape would fail after hours, or train something else.
            wanted, row = shapes.get(name), dataset.shape[1:]
            if wanted is not None and (
                len(row) != len(wanted) or any(w not in (None, n) for n, w in zip(row, wanted, strict=True))
            ):
                raise ConfigError(f"{path}: a row of {dataset.name[1:]} is {row}, {name} must be {tuple(wanted)}")
            if name in self.channels_last and len(row) < 3:
                raise ConfigError(f"{path}: a row of {dataset.name[1:]} is {row}, which has no channels last: it needs (H, W, C)")
        if len(set(lengths.values())) != 1:
            raise ConfigError(f"{path}: arrays differ in length: {lengths}")
        return int(next(iter(lengths.values())))


def _groups(path: Path, opened: h5py.File, keys: Sequence[str]) -> list[str]:
    """What ``*`` stands for in a file; one empty name where no key has it."""
    before = {key.split("*")[0].rstrip("/") for key in keys if "*" in key}
    if not before:
        return [""]
    if len(before) > 1 or any(key.count("*") != 1 for key in keys):
        raise ConfigError(f"keys are {', '.join(keys)}: * must stand for the same group, once in each")
    parent = opened.get(before.pop() or "/")
    if not isinstance(parent, h5py.Group) or not len(parent):
        raise ConfigError(f"{path} has no group in the place of *; it has {listed_arrays(opened)}")
    # demo_10 after demo_9: numbered groups are in the order of their numbers.
    return sorted(parent, key=lambda name: (len(name), name))


def listed_arrays(file: h5py.File) -> str:
    """Names of the first arrays in a file, for errors."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") or "no array"
