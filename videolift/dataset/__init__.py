"""The packaged dataset: what its files hold, how they are made, merged, described, checked and exported."""

from videolift.dataset.publish import DatasetSummary, PackagedVideo, publish_dataset

__all__ = ["DatasetSummary", "PackagedVideo", "publish_dataset"]
