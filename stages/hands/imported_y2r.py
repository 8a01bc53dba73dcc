"""Hands that `videolift import y2r` wrote."""

from __future__ import annotations

from typing import ClassVar

from stages.imported import Imported
from videolift.artifacts import ArtifactWriter, HandsWriter


class ImportedHands(Imported):
    """The ``imported_y2r`` backend."""

    writer: ClassVar[type[ArtifactWriter]] = HandsWriter


BACKEND = ImportedHands
