"""Clips of one camera: whose focal curves are put together, and what comes out as a row of ``cameras.yaml``."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from videolift.artifacts import Clip
from videolift.errors import CorruptFile
from videolift.inputs.focal_curves import MIN_RISE, FocalCurve, SharedFocalLength, shared_focal_length
from videolift.inputs.video import Video
from videolift.paths import Layout
from videolift.records.record_reader import RecordReader
from videolift.records.runs import Run
from videolift.stage_table import SOURCE

_DEPTH = "depth"
_SAME_SHAPE = 0.01


@dataclass(frozen=True)
class SolvedCamera:
    """One camera and what its clips say of it.

    Attributes:
        name: the table's, else the container's make and model.
        videos: ids of the clips that were put together.
        size_px: (W, H) of an upright picture that the focal length belongs to.
        shared: of those clips.
    """

    name: str
    videos: tuple[str, ...]
    size_px: tuple[int, int]
    shared: SharedFocalLength

    def row(self) -> dict[str, Any]:
        """Of ``cameras.yaml``."""
        source = f"videolift calibrate, {self._evidence}"
        focal_px = round(self.shared.focal_of_width * self.size_px[0], 2)
        return {"size": list(self.size_px), "focal_px": focal_px, "how": "estimated", "source": source}

    def line(self) -> str:
        """For people."""
        found = f"{self.name}: focal length {self.shared.focal_of_width:.3f} of the width by {self._evidence}"
        if self.shared.known:
            return found
        return f"{found}; not known: {MIN_RISE:.1%} are needed, add a clip in which this camera moves past near and far things"

    @property
    def _evidence(self) -> str:
        clips = f"{len(self.videos)} clip{'s' * (len(self.videos) != 1)}"
        return f"{clips}, error up by {self.shared.rise_within_tenth:.1%} within 10 %"


def solved_cameras(run: Run) -> list[SolvedCamera]:
    """Every camera of a run of which at least one clip has a focal curve, by name."""
    records = RecordReader(run.layout)
    found: dict[str, list[tuple[str, FocalCurve]]] = defaultdict(list)
    for entry in run.entries():
        receipt = records(_DEPTH, entry.video.id)
        curve = FocalCurve.from_figures(receipt.figures) if receipt is not None else None
        name = camera_name(entry.video, run.layout)
        if curve is not None and name:
            found[name].append((entry.video.id, curve))
    cameras = []
    for name, clips in sorted(found.items(), key=lambda camera: camera[0]):
        shapes = Counter(curve.size_px for _, curve in clips)
        size_px = max(shapes, key=lambda size: (shapes[size], size))  # of equal numbers the larger, whatever the order of clips
        # A video of another shape was filmed in another mode of the camera, with another focal length in pixels.
        alike = [(video, c) for video, c in clips if abs(c.size_px[0] / c.size_px[1] * size_px[1] / size_px[0] - 1) < _SAME_SHAPE]
        shared = shared_focal_length([curve for _, curve in alike])
        cameras.append(SolvedCamera(name, tuple(video for video, _ in alike), size_px, shared))
    return cameras


def camera_name(video: Video, layout: Layout) -> str | None:
    """Which camera took a video: the table's column, else what the container says; None where neither does."""
    if named := video.metadata.get("camera"):  # a person knows better than a container that an editor has written
        return named
    try:
        with Clip(layout.artifact(SOURCE, video.id)) as clip:
            recorded: str | None = clip.attrs.get("source", {}).get("camera")
            return recorded
    except (FileNotFoundError, CorruptFile):  # let go of, or not decoded yet
        return None
