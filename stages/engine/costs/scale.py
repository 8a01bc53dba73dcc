"""What many videos cost besides the work on each: files, bytes, memory and time of every step, from measured constants.

The constants stand here and nowhere else, but for the work of stages (`videolift.typical_work`). They were measured with 1,000 to
100,000 videos, where all grow linearly; what is said of more is extrapolated. ``python -m stages.engine.costs.scale`` prints the
tables of docs/scale.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from videolift.paths import SUBFOLDERS
from videolift.typical_work import TYPICAL_WORK, typical_work

SIZES = (100_000, 1_000_000, 10_000_000)
"""What docs/scale.md shows."""
FRAMES = 100
"""Of a video, where nobody says otherwise: ten seconds at 10 frames per second."""
_HOUR_S = 3600.0


@dataclass(frozen=True)
class StepCost:
    """One step over all videos, in one process.

    Attributes:
        what: the step.
        base_s, video_ms: CPU seconds whatever the number of videos, and CPU milliseconds per video.
        base_mb, video_kb: peak memory likewise.
        on_head: it runs in the process that a person starts, for the rest a job or a trainer.
    """

    what: str
    base_s: float
    video_ms: float
    base_mb: float
    video_kb: float
    on_head: bool = True

    def seconds(self, videos: int) -> float:
        """CPU seconds."""
        return self.base_s + videos * self.video_ms / 1e3

    def memory_mb(self, videos: int) -> float:
        """Peak memory."""
        return self.base_mb + videos * self.video_kb / 1e3


OPENING = StepCost("`open_dataset`", 0.05, 0.022, 80, 2.8, on_head=False)
SCALE_STEPS = (
    StepCost("`videolift plan`, all new", 1.2, 0.048, 112, 1.25),
    StepCost("`snakemake -n`, all new", 2.3, 0.055, 226, 1.43),
    StepCost("`videolift plan`, all done", 1.1, 0.087, 105, 1.22),
    StepCost("`snakemake`, nothing to do", 2.2, 0.047, 205, 0.74),
    StepCost("`snakemake`, 10 videos added", 13.6, 0.122, 206, 0.84),
    StepCost("`videolift status`, all done", 0.7, 0.058, 68, 0.61),
    StepCost("statistics and index, all new", 3.5, 6.5, 60, 0.7, on_head=False),
    StepCost("statistics and index, known videos", 0.9, 0.054, 86, 0.97, on_head=False),
    OPENING,
    StepCost("`videolift merge` of 4 shards, links", 4.1, 0.3, 75, 0.2, on_head=False),
    StepCost("`videolift merge` of 4 shards, references", 4.1, 0.1, 75, 0.2, on_head=False),
    StepCost("`videolift merge` again, nothing changed", 0.6, 0.12, 75, 0.2, on_head=False),
)
"""Measured by ``python -m benchmarks.scale`` (the head, 1,000 and 100,000 videos, 22 November 2026, two cores under a load of 10 to
20 from others; "all new" is older), ``python -m benchmarks.adding`` (nothing to do, videos added, known videos, opening) and
``python -m benchmarks.many_videos`` (merging, all new; older)."""


@dataclass(frozen=True)
class StageConstants:
    """A stage with the cpu preset: its backend, and artifact bytes per frame of 512 x 384, packaged at 256."""

    backend: str
    frame_bytes: float


STAGE_CONSTANTS = {
    "ingest": StageConstants("pyav", 250_000),
    "depth": StageConstants("sfm", 110_000),
    "tracks": StageConstants("flow", 375_000),
    "hands": StageConstants("mediapipe", 750),
    "create_h5": StageConstants("hdf5", 390_000),
}
"""Sizes of the rendered sample."""
VERIFY_FRAME_MS = 5.2
"""Of create_h5: its job reads each file that it has packaged again, and verifies it. ``python -m benchmarks.many_videos``."""
INDEX_BYTES = 1_600.0
"""Of index.sqlite, per video."""
RECORD_BYTES = 3_000.0
"""Of journals and manifests of all stages, per video."""
HEAD_LIMIT_MB, FOLDER_LIMIT_FILES, OPENING_LIMIT_S = 4_000, 10_000, 60
"""What a login node, a file system and a person put up with."""


@dataclass(frozen=True)
class ScaleForecast:
    """What so many videos of so many frames come to; hours are of one CPU core, of ``backends`` by stage."""

    videos: int
    frames: int = FRAMES
    backends: Mapping[str, str] = field(default_factory=lambda: {stage: one.backend for stage, one in STAGE_CONSTANTS.items()})

    @property
    def files(self) -> dict[str, int]:
        """Files of all videos with everything kept, and with ``keep: []``."""
        return {"everything kept": len(STAGE_CONSTANTS) * self.videos, "`keep: []`": self.videos}

    @property
    def bytes(self) -> dict[str, float]:
        """Bytes of artifacts likewise, of the index and of records."""
        per_frame = {stage: constants.frame_bytes for stage, constants in STAGE_CONSTANTS.items()}
        frames = self.videos * self.frames
        kept = {"everything kept": sum(per_frame.values()) * frames, "`keep: []`": per_frame["create_h5"] * frames}
        return kept | {"index.sqlite": INDEX_BYTES * self.videos, "journals and manifests": RECORD_BYTES * self.videos}

    @property
    def stage_hours(self) -> dict[str, float]:
        """Core-hours of each stage whose backend was ever measured."""
        works = {stage: typical_work(name) for stage, name in self.backends.items() if name in TYPICAL_WORK}
        return {stage: self.videos * work.seconds(self.frames) / _HOUR_S for stage, work in works.items()}

    @property
    def unmeasured(self) -> dict[str, str]:
        """Stages whose backend never was, and that backend."""
        return {stage: name for stage, name in self.backends.items() if name not in TYPICAL_WORK}

    @property
    def verification_hours(self) -> float:
        """Core-hours of create_h5 that verify what was packaged."""
        return VERIFY_FRAME_MS / 1e3 * self.videos * self.frames / _HOUR_S

    @property
    def head_mb(self) -> float:
        """The most memory that the head needs in any step."""
        return max(step.memory_mb(self.videos) for step in SCALE_STEPS if step.on_head)

    def to_json(self) -> dict[str, Any]:
        """For scripts; steps as (CPU seconds, peak MB)."""
        steps = {step.what: (step.seconds(self.videos), step.memory_mb(self.videos)) for step in SCALE_STEPS}
        names = ("videos", "frames", "files", "bytes", "stage_hours", "unmeasured", "head_mb")
        figures = {name: getattr(self, name) for name in names}
        return figures | {"steps": steps, "limits": {limit.what: limit.videos for limit in scale_limits()}}

    def lines(self) -> Iterator[str]:
        """For people, after what the stages cost."""
        yield f"  {self.videos:,} videos as a whole (constants and where it stops: docs/scale.md):"
        yield "  " + "; ".join(f"{count:,} files with {what.replace('`', '')}" for what, count in self.files.items())
        yield f"  index {_size(self.bytes['index.sqlite'])}, records {_size(self.bytes['journals and manifests'])}"
        hours = sum(self.stage_hours.values())
        measured = ", ".join(f"{stage} {self.backends[stage]}" for stage in self.stage_hours)
        yield f"  {hours:,.0f} core-hours of typical work ({measured}), {self.frames} frames each; above is this folder's own"
        if self.unmeasured:
            unmeasured = ", ".join(f"{stage} {name}" for stage, name in self.unmeasured.items())
            yield f"  not in these core-hours, since nobody has measured them yet: {unmeasured}"
        yield f"  memory of the head {_size(self.head_mb * 1e6)}"
        yield from (f"  {step.what.replace('`', '')}: {_time(step.seconds(self.videos))}" for step in SCALE_STEPS)
        first = scale_limits()[0]
        if self.videos > first.videos:
            shards = shards_for(self.videos)
            yield f"  beyond {first.videos:,} videos in one run ({first.what}): make {shards} shards and merge them"


@dataclass(frozen=True)
class ScaleLimit:
    """Where one run, or one dataset, stops: ``limit`` is reached at ``videos``, rounded down."""

    what: str
    limit: str
    videos: int


def scale_limits() -> list[ScaleLimit]:
    """Every limit, the first one first."""
    # The step that needs most decides, whichever it is.
    head = min((HEAD_LIMIT_MB - step.base_mb) * 1e3 / step.video_kb for step in SCALE_STEPS if step.on_head)
    opening = (OPENING_LIMIT_S - OPENING.base_s) * 1e3 / OPENING.video_ms
    found = [
        ScaleLimit("memory of the head", f"{HEAD_LIMIT_MB:,} MB", _rounded(head)),
        ScaleLimit("files in one folder", f"{FOLDER_LIMIT_FILES:,}", _rounded(FOLDER_LIMIT_FILES * SUBFOLDERS)),
        ScaleLimit("opening the dataset", f"{OPENING_LIMIT_S} s", _rounded(opening)),
    ]
    return sorted(found, key=lambda limit: limit.videos)


def shards_for(videos: int) -> int:
    """Shards of at most a quarter of what one run can take."""
    return -(-videos // (scale_limits()[0].videos // 4))


def _rounded(videos: float) -> int:
    return int(videos) // 100_000 * 100_000


def tables() -> str:
    """The tables of docs/scale.md."""
    forecasts = [ScaleForecast(videos) for videos in SIZES]
    head = f"| | {' | '.join(f'{videos:,}' for videos in SIZES)} |\n|---|{'---|' * len(SIZES)}\n"
    counted = [(f"files, {what}", [f"{one.files[what]:,}" for one in forecasts]) for what in forecasts[0].files]
    counted += [(f"bytes, {what}", [_size(one.bytes[what]) for one in forecasts]) for what in forecasts[0].bytes]
    counted += [("memory of the head", [_size(one.head_mb * 1e6) for one in forecasts])]
    stages = [(f"core-hours, {stage}", [f"{one.stage_hours[stage]:,.0f}" for one in forecasts]) for stage in STAGE_CONSTANTS]
    stages += [("of which verification", [f"{one.verification_hours:,.0f}" for one in forecasts])]
    steps = [(step.what, [f"{_time(step.seconds(n))}, {_size(step.memory_mb(n) * 1e6)}" for n in SIZES]) for step in SCALE_STEPS]
    limits = [f"| {one.what} | {one.limit} | {one.videos:,} |" for one in scale_limits()]
    return "\n\n".join(
        [
            "Files, bytes and memory:\n\n" + head + _rows(counted),
            f"Work of the stages (videos of {FRAMES} frames, cpu preset):\n\n" + head + _rows(stages),
            "Steps over all videos (CPU time, peak memory):\n\n" + head + _rows(steps),
            "Where one run stops:\n\n| | limit | videos |\n|---|---|---|\n" + "\n".join(limits),
        ]
    )


def _rows(rows: list[tuple[str, list[str]]]) -> str:
    return "\n".join(f"| {what} | {' | '.join(cells)} |" for what, cells in rows)


def _size(number: float) -> str:
    for unit in ("MB", "GB", "TB"):
        if number < 1e9:
            return f"{number / 1e6:.3g} {unit}"
        number /= 1e3
    return f"{number / 1e6:.3g} PB"


def _time(seconds: float) -> str:
    # Units in which a person compares: 90 s, but 5 min.
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


if __name__ == "__main__":
    print(tables())
