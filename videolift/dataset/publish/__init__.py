"""Publication: what describes a dataset as a whole, made from its packaged files."""

from videolift.dataset.publish.merge import MERGE_LEASE, changed_shards, merge_datasets
from videolift.dataset.publish.packaged_videos import PackagedVideo, publish_dataset
from videolift.dataset.publish.publication import MAIN_STATISTICS, DatasetSummary

__all__ = [
    "MAIN_STATISTICS",
    "MERGE_LEASE",
    "DatasetSummary",
    "PackagedVideo",
    "changed_shards",
    "merge_datasets",
    "publish_dataset",
]
