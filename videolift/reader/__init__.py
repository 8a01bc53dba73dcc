"""Reading packaged datasets for training: lazily, at random, from any process. Needs numpy, h5py and hdf5plugin; never torch."""

from videolift.dataset.file import PackagedFile
from videolift.reader.handles import Handles
from videolift.reader.samples import Selection, WindowDataset, open_dataset

__all__ = ["Handles", "PackagedFile", "Selection", "WindowDataset", "open_dataset"]
