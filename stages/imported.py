"""What `videolift import y2r` wrote, as a backend of each stage: done as it is, and never computed here.

A row of the table whose column ``imported`` names a stage has it. Its identity knows no settings: none makes imported work stale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from stages.backend import Inputs, Progress, Quality
from videolift.artifacts import ArtifactWriter
from videolift.config import IMPORTED
from videolift.errors import BadInput
from videolift.pool import Device
from videolift.y2r.adoption import IDENTITY


class Imported:
    """What the four have in common."""

    name: ClassVar[str] = IMPORTED
    version: ClassVar[int] = IDENTITY["version"]
    env: ClassVar[str | None] = None
    device: ClassVar[Literal["cpu", "cuda"]] = "cpu"
    deterministic: ClassVar[bool] = True
    shrinks: ClassVar[tuple[float, ...]] = (1.0,)
    writer: ClassVar[type[ArtifactWriter]]

    def __init__(self, settings: Any, *, root: Path) -> None:
        """Takes nothing from its settings."""

    def identity(self) -> dict[str, Any]:
        """Nothing beyond name and version."""
        return {}

    def load(self, device: Device) -> None:
        """Nothing to load."""

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Refuses: what is asked for here is not there any more, or never was.

        Raises:
            BadInput: always.
        """
        text = f"its table says that {inputs.video.id} was imported, but an artifact of it is missing or changed"
        remedy = "Import it again (videolift import y2r), or take the stage out of the column `imported`."
        raise BadInput("not_imported", text, remedy)

    def close(self) -> None:
        """Nothing to release."""
