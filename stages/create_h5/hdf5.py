"""create_h5: a video's artifacts become one packaged HDF5 file, unless its parts are not good enough.

The packaging itself is `videolift.dataset.package`, the limits `videolift.dataset.shot_gates`; here a missing part that is
``required`` is refused.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, Literal

from stages.backend import Backend, Inputs, Progress, Quality
from stages.create_h5 import CreateH5Settings
from videolift.dataset.package import Packaging, Sources, package
from videolift.dataset.shot_gates import Gates
from videolift.dataset.writer import DatasetWriter
from videolift.errors import BadInput
from videolift.inputs.video import Video
from videolift.pool import Device


class Hdf5Backend(Backend):
    """Packages one video; CPU only, a few chunks of frames in memory."""

    name: ClassVar[str] = "hdf5"
    presets: ClassVar[tuple[str, ...]] = ("cpu", "laptop", "gpu", "permissive")
    version: ClassVar[int] = 6
    env: ClassVar[str | None] = None
    device: ClassVar[Literal["cpu", "cuda"]] = "cpu"
    deterministic: ClassVar[bool] = True
    shrinks: ClassVar[tuple[float, ...]] = (1.0,)
    writer: ClassVar[type[DatasetWriter]] = DatasetWriter

    def __init__(self, settings: CreateH5Settings, *, root: Path) -> None:
        self.settings = settings
        self.packaging = Packaging(
            size=settings.size,
            view=settings.view,
            window_length=settings.window_length or Packaging.window_length,
            stride=settings.stride or Packaging.stride,
            seed=settings.seed or 0,
            depth_min_m=settings.depth_min_m,
            depth_max_m=settings.depth_max_m,
            profile=settings.profile,
            gates=Gates(settings.min_tier or "C", settings.min_points, settings.min_valid_depth, settings.min_valid_poses),
        )

    def identity(self) -> dict[str, Any]:
        """Everything that decides what is packaged and what is refused."""
        # Flat: its shape is part of the fingerprint, which must not change.
        values: dict[str, Any] = dict(vars(self.packaging)) | vars(self.packaging.gates)
        del values["gates"]
        return values | {"min_tier": self.settings.min_tier, "required": sorted(self.settings.required or ())}

    def load(self, device: Device) -> None:
        """Nothing to load."""

    def process(self, inputs: Inputs, out: DatasetWriter, *, shrink: float, progress: Progress) -> Quality:
        """Packages ``inputs`` into ``out``; see `stages.backend.Backend.process` for errors."""
        # Before the clip is asked for: the part that the user demanded is the better reason.
        lost = {part: inputs.missing[part] for part in self.settings.required or () if part in inputs.missing}
        if lost:
            what = "; ".join(f"{part} ({reason})" for part, reason in lost.items())
            raise BadInput("required_part_missing", f"required but missing: {what}", "Repair it, or take it out of `required`.")
        if inputs.clip is None:
            raise BadInput("no_clip", "there is no clip to package", "Run ingest for this video first.")
        video = inputs.video
        about = {
            "text": video.text,
            "subject": video.subject,
            "metadata": video.metadata or None,
            "lineage": inputs.lineage or None,
        }
        with inputs.open_masks() as mask:
            parts = inputs.clip, inputs.depth, inputs.tracks, inputs.hands, mask
            # Masks are opened here and closed with the file: they are the user's, not an artifact of ours.
            sources = Sources(*parts, missing=inputs.missing, about=about, known_length_m=_known_length_m(video))
            try:
                packed = package(sources, self.packaging, out, progress)
            except BadInput as refusal:
                checks = inputs.lineage.get("depth", {}).get("checks") or ()
                if refusal.code not in ("tier_below_minimum", "too_little") or not checks:
                    raise
                # The tier, or how little depth there is, does not say why; what the depth stage noted does.
                raise BadInput(refusal.code, f"{refusal.text} (depth: {checks[0]})", refusal.remedy) from refusal
        absent = tuple(f"without {part}: {reason}" for part, reason in sorted(inputs.missing.items()))
        figures = {"windows": float(packed.windows), "points": float(packed.points)}
        if packed.hand_frames is not None:
            figures["hand_frames"] = float(packed.hand_frames)
        return Quality(packed.frames, (*absent, *packed.checks), figures)

    def close(self) -> None:
        """Nothing to release."""


def _known_length_m(video: Video) -> float | None:
    given = video.metadata.get("known_length")
    if not given:
        return None
    try:
        length_m = float(given)
    except ValueError:
        # A word instead of a number is refused by the same sentence as a wrong number.
        length_m = math.nan
    if not 0.02 < length_m < 0.3:
        text = f"known_length is {given!r}: it is the distance from the wrist to the middle finger's knuckle in metres, 0.02 to 0.3"
        raise BadInput("known_length", text, "Correct it in the table, or leave the cell empty.")
    return length_m


BACKEND = Hdf5Backend
