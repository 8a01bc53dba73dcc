"""Other projects' files as sources of samples. `open_samples` looks into the path it is given and finds the adapter.

An adapter is a class with ``__len__`` and ``open(index, epoch=...)``: see `videolift.reader.draws.Source`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  registers the filters

from videolift.dataset.layout import DATASET_FORMAT
from videolift.errors import ConfigError
from videolift.reader.adapters.hdf5_arrays import Hdf5Arrays, array_names
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
    "class; any other HDF5 file with keys={name: array}"
)


def open_samples(path: Path | str, **options: Any) -> Source:
    """The source that fits a file or folder.

    Args:
        path: see `UNDERSTOOD`.
        options: of the adapter, or of `open_dataset`; ``keys`` as a mapping reads any HDF5 file of arrays of one length.

    Raises:
        ConfigError: no adapter fits; the text says what was found.
        CorruptFile: it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        if (path / "dataset.json").is_file():
            return open_dataset(path, **options)
        files = sorted(path.glob("*.hdf5"))
        if files and h5py.is_hdf5(files[0]):
            with h5py.File(files[0], "r", locking=False) as file:
                if "root/video" in file:
                    return Y2rWindows(files, **options)
        folders = [item for item in path.iterdir() if item.is_dir()]
        # By suffix, not by content: of a million images none is opened to know what the folder is.
        if any(image.suffix.lower() in IMAGE_SUFFIXES for folder in folders for image in folder.iterdir()):
            return ImageFolder(path, **options)
        listed = ", ".join(sorted(item.name for item in path.iterdir())[:8]) or "nothing"
        raise ConfigError(f"{path} holds {listed}, which is nothing known. Understood are: {UNDERSTOOD}")
    if not path.is_file():
        raise ConfigError(f"{path} is not there")
    if not h5py.is_hdf5(path):
        raise ConfigError(f"{path} is not an HDF5 file. Understood are: {UNDERSTOOD}")
    if isinstance(options.get("keys"), dict):
        return Hdf5Arrays(path, **options)
    with h5py.File(path, "r", locking=False) as file:
        stored = file.attrs.get("format")
        ours = (stored.decode() if isinstance(stored, bytes) else stored) == DATASET_FORMAT
        names, inside = set(file), ", ".join(array_names(file)[:8]) or "no array"
        y2r = "root/video" in file and "root/tracks" in file
    if ours:
        return WindowDataset([path], **options)
    if y2r:
        return Y2rWindows([path], **options)
    if {"stimuli", "fixations"} <= names:
        return SaliencyStimuli(path, **options)
    # Keys that are not a mapping are `SequenceKeys`: whoever gives them has said what the file is.
    if {"images", "metadata"} <= names or "keys" in options:
        return ImageSequences(path, **options)
    raise ConfigError(f"{path} holds {inside}, which is nothing known. Understood are: {UNDERSTOOD}")
