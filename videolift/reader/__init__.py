"""Reading packaged datasets for training: lazily, at random, from any process. Needs numpy, h5py and hdf5plugin; never torch."""

from videolift.dataset.file import PackagedFile
from videolift.reader.draws import Draw, Source
from videolift.reader.handles import Handles
from videolift.reader.mixing.mixture import Ingredient, Mixture, MixtureSampler
from videolift.reader.normalization import Normalization
from videolift.reader.samples import WindowDataset, open_dataset
from videolift.reader.selection import Selection

__all__ = [
    "Draw",
    "Handles",
    "Ingredient",
    "Mixture",
    "MixtureSampler",
    "Normalization",
    "PackagedFile",
    "Selection",
    "Source",
    "WindowDataset",
    "open_dataset",
]
