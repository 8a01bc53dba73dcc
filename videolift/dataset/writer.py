"""The writer of one packaged file: arrays as they come; at the end statistics and the storage profile asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videolift.artifacts import ArtifactWriter, Published
from videolift.dataset.layout import DATASET_FORMAT, DATASET_VERSION, FIELDS
from videolift.dataset.profiles import PROFILES
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.errors import storage_errors_are_transient


class DatasetWriter(ArtifactWriter):
    """Writes one packaged file, its accumulators in it under ``stats/``."""

    FORMAT, VERSION, FIELDS, ROWS = DATASET_FORMAT, DATASET_VERSION, FIELDS, "timestamps"

    def __init__(self, final: Path, *, segments: Path | None = None) -> None:
        super().__init__(final, segments=segments)
        self.statistics = Accumulators()
        """Of everything packaged; written under ``stats/`` on publication."""
        self.profile = "default"
        """One of `videolift.dataset.profiles.PROFILES`; set it before publication."""

    def commit(self) -> None:
        """Nothing: a video is packaged in seconds and from its beginning."""

    def carry(self, facts: Mapping[str, Any]) -> None:
        """Puts ``facts`` among the attributes: the hash of a packaged file is that of the whole file, unlike an artifact's."""
        self.describe(facts=dict(facts))

    def publish(self) -> Published:
        """As `ArtifactWriter.publish`, in the storage profile asked for."""
        if self.profile != "default":
            with storage_errors_are_transient(f"writing {self.final.name}"):
                # Written as default first: a profile is a rewriting of a whole file, and its statistics are of what is stored.
                plain, plain_path = self._open(), self._temporary
                for growing in self._growing.values():
                    growing.flush()
                self._file, self._growing = None, {}
                try:
                    self.describe(**PROFILES[self.profile].convert(plain, self._open(), self.statistics))
                finally:
                    plain.close()
                    plain_path.unlink()
        # Last: a lossy profile has replaced the statistics of what it changed.
        self.put(**{f"stats/{name}": array for name, array in self.statistics.pack().items()})
        return super().publish()
