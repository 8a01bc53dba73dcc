"""Other projects' files as sources of samples. `open_samples` looks into the path it is given and finds the adapter.

An adapter is a class with ``__len__`` and ``open(index, epoch=...)``: see `videolift.reader.draws.Source`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  registers the filters

from videolift.dataset.layout import DATASET_FORMAT
from videolift.errors import ConfigError
from videolift.reader.adapters.hdf5_arrays import Hdf5Arrays, listed_arrays
from videolift.reader.adapters.image_folder import IMAGE_SUFFIXES, ImageFolder
from videolift.reader.adapters.image_sequences import ImageSequences, SequenceKeys
from videolift.reader.adapters.saliency import SaliencyStimuli
from videolift.reader.adapters.y2r_windows import Y2rWindows
from videolift.reader.draws import Source
from videolift.reader.samples import WindowDataset, open_dataset

__all__ = ["Hdf5Arrays", "ImageFolder", "ImageSequences", "SaliencyStimuli", "SequenceKeys", "Y2rWindows", "open_samples"]

UNDERSTOOD = (
    "a folder with dataset.json or a packaged file of videolift; the predecessor's .hdf5 files (root/video, root/tracks); "
    "an HDF5 file of images and metadata (sequence, frame); one of stimuli and fixations; a folder with one folder of images per "
    "class; any other HDF5 file, or folder of them, with keys={name: array}"
)
_SEQUENCE_KEYS = {field.name for field in fields(SequenceKeys)}
_HDF5 = (".hdf5", ".h5")


def open_samples(path: Path | str, **options: Any) -> Source:
    """The source that fits a file or folder.

    Args:
        path: see `UNDERSTOOD`.
        options: of the adapter, or of `open_dataset`; ``keys`` as a mapping reads any HDF5 files of arrays of one length. One with
            ``images`` and ``metadata`` names the parts of an image sequence, as `SequenceKeys` does.

    Raises:
        ConfigError: no adapter fits, and the text says what was found; or the adapter has no such option.
        CorruptFile: it cannot be read.
    """
    path, keys = Path(path), options.get("keys")
    # The YAML of a mixture cannot hold a `SequenceKeys`.
    if isinstance(keys, dict) and {"images", "metadata"} <= set(keys) <= _SEQUENCE_KEYS:
        keys = options["keys"] = SequenceKeys(**keys)
    if path.is_dir():
        if (path / "dataset.json").is_file():
            return _made(open_dataset, path, options)
        files = [file for file in sorted(path.iterdir()) if file.suffix in _HDF5]
        if files and isinstance(keys, dict):
            return _made(Hdf5Arrays, files, options)
        if files and h5py.is_hdf5(files[0]):
            with h5py.File(files[0], "r", locking=False) as file:
                if "root/video" in file:
                    return _made(Y2rWindows, files, options)
        # By suffix, not by content: of a million images none is opened to know what the folder is.
        listed = (file for folder in path.iterdir() if folder.is_dir() for file in folder.iterdir())
        if any(file.suffix.lower() in IMAGE_SUFFIXES for file in listed):
            return _made(ImageFolder, path, options)
        found = ", ".join(sorted(item.name for item in path.iterdir())[:8]) or "nothing"
        raise ConfigError(f"{path} holds {found}, which no adapter reads. They read {UNDERSTOOD}")
    if not path.is_file():
        raise ConfigError(f"{path} is not there")
    if not h5py.is_hdf5(path):
        raise ConfigError(f"{path} is not an HDF5 file. The adapters read {UNDERSTOOD}")
    if isinstance(keys, dict):
        return _made(Hdf5Arrays, path, options)
    with h5py.File(path, "r", locking=False) as file:
        stored = file.attrs.get("format")
        ours = (stored.decode() if isinstance(stored, bytes) else stored) == DATASET_FORMAT
        names, inside = set(file), listed_arrays(file)
        y2r = "root/video" in file and "root/tracks" in file
    if ours:
        return _made(WindowDataset, [path], options)
    if y2r:
        return _made(Y2rWindows, [path], options)
    if {"stimuli", "fixations"} <= names:
        return _made(SaliencyStimuli, path, options)
    # Keys that are not a mapping are `SequenceKeys`: whoever gives them has said what the file is.
    if {"images", "metadata"} <= names or keys is not None:
        return _made(ImageSequences, path, options)
    raise ConfigError(f"{path} holds {inside}, which no adapter reads. They read {UNDERSTOOD}")


def _made(adapter: Callable[..., Source], path: Path | list[Path], options: dict[str, Any]) -> Source:
    allowed = list(inspect.signature(adapter).parameters)[1:]
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        where = path[0].parent if isinstance(path, list) else path
        raise ConfigError(
            f"{where} is read by {adapter.__name__}, which has no option {', '.join(unknown)}; it has {', '.join(allowed)}"
        )
    return adapter(path, **options)
