"""Stimuli and where people looked: images and fixations in one HDF5 file, with density maps made on reading."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from videolift.errors import ConfigError
from videolift.reader.adapters.lazy_hdf5 import LazyHdf5, column_names, read_column
from videolift.reader.frames import Sample


class SaliencyStimuli:
    """A sample is a stimulus: ``image`` u8 (3, H, W), ``density`` f32 (H, W) of sum 1, ``fixations_px`` (n, 2) with a mask.

    A stimulus without a fixation has density 0 and ``density_valid`` False.

    Args:
        path: holds ``stimuli`` u8 (N, H, W, 3) and ``fixations`` (M, 3): stimulus, x, y in pixels; or, with names of ``columns``, a
            compound array or a group of columns.
        sigma_px: width of the Gaussian around each fixation.
        max_fixations: per stimulus; later ones count for the density only.
        stimuli, fixations, columns: other names.

    Raises:
        ConfigError: arrays that are not there or have other shapes, or fixations on stimuli that are not there.
        CorruptFile: the file cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        sigma_px: float = 20.0,
        max_fixations: int = 100,
        stimuli: str = "stimuli",
        fixations: str = "fixations",
        columns: tuple[str, str, str] = ("stimulus", "x", "y"),
    ) -> None:
        self.path, self.sigma_px, self.max_fixations, self._stimuli = Path(path), sigma_px, max_fixations, stimuli
        self._file = LazyHdf5(self.path)
        opened = self._file.open()
        if stimuli not in opened or fixations not in opened:
            raise ConfigError(f"{path} has no {stimuli} and {fixations}; it has {', '.join(sorted(opened))}")
        self._shape = opened[stimuli].shape
        rows = read_columns(opened[fixations], columns, f"{path}: {fixations}")
        if len(self._shape) != 4 or self._shape[3] != 3 or rows.ndim != 2 or rows.shape[1] != 3:
            raise ConfigError(f"{path}: {stimuli} {self._shape} must be (N, H, W, 3), {fixations} {rows.shape} must be (M, 3)")
        if len(rows) and not (rows[:, 0].min() >= 0 and rows[:, 0].max() < self._shape[0]):
            raise ConfigError(f"{path}: {fixations} name stimuli {rows[:, 0].min():g} to {rows[:, 0].max():g} of {self._shape[0]}")
        self._fixations = rows

    def __len__(self) -> int:
        return int(self._shape[0])

    def open(self, index: int, *, epoch: int = 0) -> Sample:
        """See the class.

        Raises:
            IndexError: no such stimulus.
            CorruptFile: it cannot be read.
        """
        index = range(len(self))[index]
        points = self._fixations[self._fixations[:, 0] == index][:, 1:]
        # As many rows in every sample, with a mask: a batch needs one shape.
        kept = points[: self.max_fixations]
        padded = np.zeros((self.max_fixations, 2), np.float32)
        padded[: len(kept)] = kept
        image = np.ascontiguousarray(self._file.read(self._stimuli, index).transpose(2, 0, 1))
        density = density_map(points, self._shape[1:3], self.sigma_px)
        sample: Sample = {"image": image, "density": density, "density_valid": np.array(len(points) > 0)}
        return sample | {"fixations_px": padded, "fixation_valid": np.arange(self.max_fixations) < len(kept)}


def read_columns(table: h5py.Dataset | h5py.Group, columns: tuple[str, str, str], what: str) -> NDArray[np.float64]:
    """Stimulus, x and y (M, 3) of a plain array, or of the columns of those names.

    Raises:
        ConfigError: there is no such column; ``what`` names the table.
    """
    if not (names := column_names(table)):
        return np.asarray(table[...], np.float64)
    if missing := [name for name in columns if name not in names]:
        raise ConfigError(f"{what} has no column {', '.join(missing)}; it has {', '.join(names)}: name them in columns=(...)")
    return np.stack([np.asarray(read_column(table, name), np.float64) for name in columns], 1)


def density_map(points_px: NDArray[np.float64], size_hw: tuple[int, int], sigma_px: float) -> NDArray[np.float32]:
    """Sum of Gaussians around points (n, 2) as (x, y), over an image of (H, W) pixels, scaled to sum to 1; 0 without points."""
    height, width = size_hw
    # A Gaussian is the product of one along x and one along y: H + W exponentials per point instead of H times W.
    along_x = np.exp(-((np.arange(width) - points_px[:, :1]) ** 2) / (2 * sigma_px**2))
    along_y = np.exp(-((np.arange(height) - points_px[:, 1:]) ** 2) / (2 * sigma_px**2))
    density = along_y.T @ along_x
    # Not 0 / 0 where there is no point.
    return np.asarray(density / max(density.sum(), np.finfo(float).tiny), np.float32)
