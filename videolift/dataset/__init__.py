"""The packaged dataset: what its files hold, how they are made, merged, described, checked and exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videolift.dataset.publish import DatasetSummary, PackagedVideo, publish_dataset

__all__ = ["DatasetSummary", "PackagedVideo", "publish_dataset"]


def __getattr__(name: str) -> Any:
    # Publishing needs Python 3.11. The reader, which imports modules of this package, must not: trainers may have 3.10.
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from videolift.dataset import publish

    return getattr(publish, name)
