"""The stages, one row each: what a stage reads, where its artifacts lie, what of a table's row decides its result.

Everything that differs between stages, but for what they compute, stands here; configuration, plan, freshness, worker, clean-up
and the Snakefile derive from it. Names no backend: those are files of ``stages/{stage}/``, and say themselves what they are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class StageSpec:
    """One stage.

    Attributes:
        name: of the stage, of its block in config.yaml, and of its folder below ``stages/``.
        summary: one line for people.
        folder, suffix: of its artifacts in the output folder.
        artifact: the class that opens them, as ``module:Class``.
        reads: stages whose artifacts it reads, in the order of the table.
        optional: those of ``reads`` without which it still makes an artifact, unless the setting ``required`` names them.
        field: its artifact's field of `stages.backend.Inputs`; empty: it is found in ``Inputs.others`` by the stage's name.
        files: columns of the table of videos that name files it reads.
        cells: columns that decide its result one by one, where they are set.
        row: columns that decide its result together, set or not.
        by_shot: its backend meets every shot of a video with cuts by itself.
        packages: its artifacts are the dataset; of one stage.
        addition: what reads it does without it; where it is set to none, their work is what it was before the stage was added.
    """

    name: str
    summary: str
    folder: str
    artifact: str
    reads: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    field: str = ""
    files: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    row: tuple[str, ...] = ()
    suffix: str = ".h5"
    by_shot: bool = False
    packages: bool = False
    addition: bool = False


# Each after those it reads: whoever goes through them in this order meets nothing before its inputs.
_ROWS = (
    StageSpec(
        name="ingest",
        summary="Decodes videos into clips: resampled, upright, cropped.",
        folder="frames",
        artifact="videolift.artifacts:Clip",
        field="clip",
        files=("path", "calib"),
        cells=("start_s", "end_s", "camera"),
    ),
    StageSpec(
        name="depth",
        summary="Depth, camera pose and intrinsics of every clip.",
        folder="depth",
        artifact="videolift.artifacts:Depth",
        reads=("ingest",),
        field="depth",
        by_shot=True,
        files=("depth",),
    ),
    StageSpec(
        name="masks",
        summary="Objects followed from the first frame, as instance ids per pixel.",
        folder="masks",
        artifact="videolift.artifacts.object_masks:ObjectMasks",
        reads=("ingest",),
        field="masks",
        files=("mask",),
        cells=("objects",),
        addition=True,
    ),
    StageSpec(
        name="tracks",
        summary="3D point tracks of every window.",
        folder="tracks_3d",
        artifact="videolift.artifacts:Tracks",
        reads=("ingest", "depth", "masks"),
        optional=("masks",),
        field="tracks",
        by_shot=True,
        files=("mask",),
    ),
    StageSpec(
        name="hands",
        summary="Hand poses, both sides.",
        folder="hand_poses",
        artifact="videolift.artifacts:Hands",
        reads=("ingest", "depth"),
        field="hands",
        by_shot=True,
    ),
    StageSpec(
        name="create_h5",
        summary="Packs everything into one HDF5 file per video.",
        folder="h5_dataset",
        suffix=".hdf5",
        artifact="videolift.dataset.file:PackagedFile",
        reads=("ingest", "depth", "masks", "tracks", "hands"),
        optional=("depth", "masks", "tracks", "hands"),
        files=("mask",),
        row=("text", "subject", "split", "metadata"),
        packages=True,
    ),
)

NONE = "none"
"""Instead of a backend: the stage is left out."""
SPECS: Mapping[str, StageSpec] = {spec.name: spec for spec in _ROWS}
STAGES: tuple[str, ...] = tuple(SPECS)
"""Names, each after those it reads."""
SOURCE = next(spec.name for spec in _ROWS if "path" in spec.files)
"""The stage that reads the user's videos."""
PACKAGING = next(spec.name for spec in _ROWS if spec.packages)
"""The stage whose artifacts are the dataset."""
STATISTICS = "statistics"
"""What follows the last stage, over all videos at once; it has manifests of its own."""
PARTS = SPECS[PACKAGING].optional
"""Parts that a packaged video may lack."""


@cache
def with_upstream(*stages: str) -> tuple[str, ...]:
    """``stages`` and every stage they need, in order."""
    wanted = set(stages)
    # From the end: what a stage reads stands before it, so one pass finds all.
    for stage in reversed(STAGES):
        if stage in wanted:
            wanted.update(SPECS[stage].reads)
    return tuple(stage for stage in STAGES if stage in wanted)


def ends() -> tuple[str, ...]:
    """Stages that no other reads; together they need all."""
    read = {name for spec in _ROWS for name in spec.reads}
    return tuple(stage for stage in STAGES if stage not in read)


def judged(target: str) -> tuple[str, ...]:
    """Stages that a verdict on ``target`` tells of: those it needs, or all where it is the dataset."""
    return STAGES if target == PACKAGING else with_upstream(target)


def releasable() -> tuple[str, ...]:
    """Stages all of whose readers are done once a video is packaged; no other artifact may be let go then."""
    # An artifact that no stage reads is a result; one that a stage beside packaging reads may still be needed.
    packaged = with_upstream(PACKAGING)
    readers = {stage: {spec.name for spec in _ROWS if stage in spec.reads} for stage in STAGES}
    return tuple(stage for stage in STAGES if stage != PACKAGING and readers[stage] and readers[stage] <= {*packaged})
