"""pyav: a video file to a `Clip` with PyAV; streaming, one pass, the same bytes with any number of threads.

Output time ``t_j = start + j / fps`` takes the source frame nearest to it; ``pts_seconds`` are that frame's own, in the source's
clock, strictly increasing, and no frame is taken twice (a source slower than ``fps`` keeps its rate: attribute ``fps``). The row's
start and end count from the container's first timestamp, as players do. Nothing is committed in between: a kill costs one decoding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from stages.backend import Backend, Inputs, Progress, Quality
from stages.ingest import IngestSettings
from videolift.artifacts import ArtifactWriter, ClipWriter
from videolift.pool import Device


class PyavIngest(Backend):
    """The ingest backend; see the module."""

    name: ClassVar[str] = "pyav"
    presets: ClassVar[tuple[str, ...]] = ("cpu", "laptop", "gpu", "permissive")
    version: ClassVar[int] = 2
    env: ClassVar[str | None] = None
    device: ClassVar[Literal["cpu", "cuda"]] = "cpu"
    deterministic: ClassVar[bool] = True
    shrinks: ClassVar[tuple[float, ...]] = (1,)
    writer: ClassVar[type[ArtifactWriter]] = ClipWriter

    def __init__(self, settings: IngestSettings, *, root: Path) -> None:
        self._settings, self._threads = settings, 1

    def identity(self) -> dict[str, Any]:
        """What changes a clip."""
        names = {"fps", "width", "height", "fit", "cuts", "black_below"}
        identity: dict[str, Any] = self._settings.model_dump(mode="json", include=names)
        return identity

    def load(self, device: Device) -> None:
        """Takes the device's threads."""
        self._threads = device.threads

    def close(self) -> None:
        """Nothing is held between videos."""

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Decodes one video into ``out``, a `ClipWriter`; see `stages.backend.Backend.process` for errors."""
        # PyAV and OpenCV take 30 MB; a run's head process, which only asks for name and version, does without them.
        from stages.ingest.conversion import convert

        assert isinstance(out, ClipWriter)
        return convert(inputs.video, self._settings, self._threads, out, progress)


BACKEND = PyavIngest
