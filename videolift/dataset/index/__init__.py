"""The dataset's index: ``index.sqlite``, one row per video, and its small summary ``dataset.json``."""

from videolift.dataset.index.index_reader import INDEX_FILE, Index, IndexEntry, read_index

__all__ = ["INDEX_FILE", "Index", "IndexEntry", "read_index"]
