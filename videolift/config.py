"""The configuration as one typed tree: every setting with its default, unit and reason.

`config.yaml` is this tree's commented face, and a test keeps the two equal. Unknown keys are refused with the nearest known key
named. Backends are chosen by name, never by what a machine happens to have; `Config.for_video` is the one place that resolves
``preset``, the table's own depth and ``overrides`` into the settings one video is processed with.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from videolift.errors import ConfigError
from videolift.store import sha256_of

Stage = Literal["ingest", "depth", "tracks", "hands", "create_h5"]
STAGES: tuple[Stage, ...] = ("ingest", "depth", "tracks", "hands", "create_h5")
UPSTREAM: dict[str, tuple[Stage, ...]] = {
    "ingest": (),
    "depth": ("ingest",),
    "tracks": ("ingest", "depth"),
    "hands": ("ingest", "depth"),
    "create_h5": ("ingest", "depth", "tracks", "hands"),
}
"""What each stage reads, in the order of the chain."""

PRESETS: dict[str, dict[str, str]] = {
    "cpu": {"ingest": "pyav", "depth": "sfm", "tracks": "flow", "hands": "mediapipe", "create_h5": "hdf5"},
    "gpu": {"ingest": "pyav", "depth": "vipe", "tracks": "tapip3d", "hands": "wilor", "create_h5": "hdf5"},
}
IMPORTABLE: tuple[Stage, ...] = ("ingest", "depth", "tracks", "hands")
"""Stages whose artifacts `videolift import y2r` writes; a row of the table that names them has `IMPORTED` as their backend."""
IMPORTED = "imported_y2r"
Tier = Literal["A", "B", "C", "D"]
Part = Literal["depth", "tracks", "hands"]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Block(BaseModel):
    """A node of the tree: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class StageBlock(Block):
    """What every stage has: a backend by name, and free ``options`` for a backend that ships outside this tree.

    `Config.for_video` also puts the run's folders on it, which a backend needs and which are no settings of the stage: they
    change no result, are not dumped, and enter no fingerprint.
    """

    backend: str = Field("preset", description="backend by name; `preset` takes the one of the chosen preset")
    options: dict[str, Any] = Field({}, description="settings of a backend of your own, checked by that backend")
    seed: int | None = Field(None, ge=0, description="of what this stage draws at random; none takes the run's seed")
    _folders: tuple[str, str] = PrivateAttr(("thirdparty/weights", "thirdparty/envs"))

    @property
    def models_dir(self) -> str:
        """The run's folder of weights, relative to the checkout."""
        return self._folders[0]

    @property
    def envs_dir(self) -> str:
        """The run's folder of the models' environments, relative to the checkout."""
        return self._folders[1]


class IngestSettings(StageBlock):
    """Decoding: timestamps, size, colour."""

    fps: Positive = Field(10.0, description="frames per second kept, resampled by true timestamps")
    width: Count = Field(512, description="pixels; swapped with height for portrait videos when fit is auto")
    height: Count = Field(384, description="pixels")
    fit: Literal["auto", "crop", "stretch"] = Field(
        "auto", description="auto: cover-resize and centre crop, swapped for portrait; crop: never swapped; stretch: no crop"
    )
    black_below: Share = Field(0.02, description="a clip whose brightest frame's mean is below this share is refused as black")


class SfmSettings(Block):
    """Structure from motion on a CPU (facts and thresholds: docs/backends.md)."""

    focal_guess: Positive = Field(0.85, description="first guess of the focal length, as a share of the long side")
    features: Count = Field(900, description="corners tracked per frame")
    static_px: Positive = Field(0.7, description="median motion over 20 frames below this: the camera stands still")
    rotation_px: Positive = Field(0.7, description="median left of that motion by the best pure rotation below this: rotation only")
    max_reprojection_px: Positive = Field(1.0, description="mean reprojection error above this refuses the reconstruction")
    min_registered: Share = Field(0.8, description="share of keyframes that must be registered")
    hfov_min_deg: Positive = Field(35.0, description="narrower fields of view (along the long side) are refused as mis-estimated")
    hfov_max_deg: Positive = Field(100.0, description="wider ones likewise")
    max_relative_sigma: Positive = Field(0.08, description="depth less certain than this share of itself is invalid")
    plane_pitch_deg: float = Field(40.0, description="tilt of the assumed table when depth cannot be observed")
    plane_depth_m: Positive = Field(0.6, description="assumed distance to that table at the image centre")


class RgbdSettings(Block):
    """Depth that comes with the video (npz)."""

    pose: Literal["auto", "given", "sfm", "static"] = Field(
        "auto", description="auto: extrinsics in the file if there, else static if the camera does not move, else sfm"
    )


class MogeSettings(Block):
    """MoGe v2: metric depth per frame."""

    weights: str = Field("Ruicheng/moge-2-vitl-normal", description="a name in thirdparty/models.yaml, or a file of yours")
    hfov_deg: Positive | None = Field(None, description="fixed horizontal field of view; none takes the median of its estimates")
    resolution_level: int = Field(9, ge=0, le=9, description="0 fast to 9 fine, upstream's scale")
    batch_frames: Count = Field(8, description="frames per forward pass; halved on out of memory")
    python: str | None = Field(None, description="an interpreter of yours instead of the built environment")
    checkout: str | None = Field(None, description="a checkout of yours instead of the installed one")
    utils3d: str | None = Field(None, description="likewise, of the utils3d that it imports")


class VipeSettings(Block):
    """ViPE: metric depth and camera pose."""

    pipeline: Literal["default", "no_vda", "lyra", "static_vda"] = Field(
        "default", description="ViPE's preset; lyra alone has no metric scale (recorded as arbitrary)"
    )
    mask_phrases: tuple[str, ...] = Field(("hand", "arm", "person"), description="what moves, masked out of SLAM")
    hfov_deg: Positive | None = Field(None, description="fixed horizontal field of view; none estimates it")
    hfov_min_deg: Positive = Field(30.0, description="an estimate below this quarantines the video")
    hfov_max_deg: Positive = Field(110.0, description="an estimate above this likewise")
    min_relative_relief: Positive = Field(0.02, description="std/median of depth below this: flat depth, quarantined")
    torch_home: str | None = Field(None, description="a TORCH_HOME of yours that holds its weights, instead of models_dir")
    hf_home: str | None = Field(None, description="an HF_HOME of yours, likewise")
    python: str | None = Field(None, description="an interpreter of yours instead of the built environment")


class DepthSettings(StageBlock):
    """Depth, camera pose and intrinsics."""

    segment_s: Positive = Field(60.0, description="seconds of video saved together; a kill costs at most one segment")
    sfm: SfmSettings = SfmSettings()
    rgbd: RgbdSettings = RgbdSettings()
    moge: MogeSettings = MogeSettings()
    vipe: VipeSettings = VipeSettings()


class FlowSettings(Block):
    """Tracks by chained dense optical flow, on a CPU."""

    max_side_px: Count = Field(640, description="flow is computed at this size of the long side at most")
    occlusion_px: Positive = Field(
        0.8, description="forward-backward error that ends visibility, plus occlusion_share of the motion"
    )
    occlusion_share: Share = Field(0.05, description="see occlusion_px")


class Tapip3dSettings(Block):
    """TAPIP3D: learned 3D point tracks."""

    weights: str = Field("tapip3d_final", description="a name in thirdparty/models.yaml, or a file of yours")
    iterations: Count = Field(6, description="refinement steps, upstream's num_iters")
    visibility: Share = Field(0.9, description="sigmoid of the visibility logit from which a point counts as visible")
    resolution_factor: Positive = Field(
        1.0, description="frame area fed, in the model's own; upstream's demo takes 2, twice the cost"
    )
    support_grid: int = Field(0, ge=0, description="upstream's grid_size: extra points that steady sparse queries")
    check_every: int = Field(
        30, ge=0, description="every so manieth window is tracked backward too, to measure forward-backward error; 0: none"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the card truly has it")
    python: str | None = Field(None, description="an interpreter of yours instead of the built environment")
    checkout: str | None = Field(None, description="a checkout of yours instead of the installed one")


class TracksSettings(StageBlock):
    """3D point tracks for every window."""

    window_length: int = Field(10, ge=2, description="frames per window")
    stride: Count = Field(1, description="frames between window starts")
    query: Literal["grid", "random", "mask"] = Field("grid", description="where points start in a window's first image")
    points: Count = Field(3000, description="points asked for per window; points without depth are dropped")
    mask_erode_px: int = Field(3, ge=0, description="a mask is eroded by this before points are drawn in it")
    segment_s: Positive = Field(60.0, description="seconds of video saved together; a kill costs at most one segment")
    flow: FlowSettings = FlowSettings()
    tapip3d: Tapip3dSettings = Tapip3dSettings()


class MediapipeSettings(Block):
    """MediaPipe hands, on a CPU."""

    min_confidence: Share = Field(0.3, description="of the palm detector")
    min_presence: Share = Field(0.8, description="the second model's belief that it sees a hand; at 0.5 a dog's ears are hands")
    tiles: bool = Field(True, description="also look in 2 x 2 overlapping tiles; finds about twice the hands")
    fingers_away: bool = Field(True, description="of two palm tilts that fit, take the one with fingers pointing away (egocentric)")
    python: str | None = Field(None, description="an interpreter of yours instead of the built environment")


class WilorSettings(Block):
    """WiLoR hands."""

    weights: str = Field("wilor_final", description="a name in thirdparty/models.yaml, or a file of yours")
    detector: str = Field("wilor_detector", description="likewise, the hand detector")
    mano: str = Field("mano_right", description="likewise, MANO_RIGHT.pkl (needs the licence click)")
    min_confidence: Share = Field(0.3, description="of the detector")
    rescale: Positive = Field(2.0, description="crop size relative to the box, as upstream's demo")
    batch_crops: Count = Field(64, description="crops per forward pass, over frames and hands; halved on out of memory")
    python: str | None = Field(None, description="an interpreter of yours instead of the built environment")
    checkout: str | None = Field(None, description="a checkout of yours instead of the installed one")


class HandsSettings(StageBlock):
    """Hand poses, both sides."""

    max_gap: int = Field(5, ge=0, description="frames without a hand that are interpolated (and flagged) at most")
    max_speed_m_s: Positive = Field(3.0, description="a wrist that jumps faster than this, both ways, is an outlier")
    segment_s: Positive = Field(60.0, description="seconds of video saved together; a kill costs at most one segment")
    mediapipe: MediapipeSettings = MediapipeSettings()
    wilor: WilorSettings = WilorSettings()


class CreateH5Settings(StageBlock):
    """The packaged file."""

    size: Count = Field(256, description="pixels, square")
    depth_min_m: Positive = Field(0.1, description="metres; nearer query points are dropped, statistics and readers clip")
    depth_max_m: Positive = Field(2.5, description="metres; likewise for farther ones")
    profile: Literal["default", "fast", "tiny"] = Field(
        "default", description="default: lossless; fast: read by memory map; tiny: lossy, errors stated"
    )
    min_tier: Tier | None = Field(None, description="none takes the run's min_tier; see there")
    required: tuple[Part, ...] | None = Field(None, description="none takes the run's required; see there")
    window_length: int | None = Field(None, ge=2, description="none takes that of tracks")
    stride: Count | None = Field(None, description="none takes that of tracks")

    @model_validator(mode="after")
    def _ordered(self) -> CreateH5Settings:
        if self.depth_min_m >= self.depth_max_m:
            raise ValueError(f"depth_min_m is {self.depth_min_m}, must be below depth_max_m {self.depth_max_m}")
        return self


class SplitSettings(Block):
    """Which videos train: drawn by subject, else by source, so that neither is in two splits; the table's `split` goes before"""

    seed: int = Field(0, ge=0, description="its own: another seed of the run moves no video between splits")
    train: Share = Field(0.8, description="expected share; the three sum to 1, changing them moves videos")
    val: Share = Field(0.1, description="likewise")
    test: Share = Field(0.1, description="likewise")

    @model_validator(mode="after")
    def _whole(self) -> SplitSettings:
        if abs(self.train + self.val + self.test - 1) > 1e-9:
            raise ValueError(f"train, val and test are {self.train}, {self.val} and {self.test}: they must sum to 1")
        return self


class StatisticsSettings(Block):
    """Normalization statistics over all done videos."""

    group: str | None = Field(None, description="tier-scale of the main file, e.g. A-metric; none takes the best tier present")
    splits: SplitSettings = SplitSettings()


class PoolSettings(Block):
    """Workers of a stage (videolift.pool)."""

    max_workers: Count | None = Field(None, description="most workers per device, cards and CPU alike; none: measured")
    margin: Annotated[float, Field(ge=0)] = Field(0.15, description="added to the measured peak memory, as a share")
    reserve_gb: Annotated[float, Field(ge=0)] = Field(1.0, description="memory per device left to others")
    allow_shrink: bool = Field(True, description="on out of memory retry with smaller chunks before giving up")
    attempts: Count = Field(3, description="crashes or hangs after which a video is quarantined")
    transient_retries: Annotated[int, Field(ge=0)] = Field(
        3, description="storage errors of one video after which the pool stops politely"
    )
    backoff_s: Positive = Field(
        2.0, description="seconds before the first retry after a storage error or a failed load; doubled each time"
    )
    load_timeout_s: Positive = Field(900.0, description="seconds for loading a model")
    item_timeout_s: Positive = Field(600.0, description="seconds without any progress that count as a hang")
    grace_s: Positive = Field(25.0, description="seconds that running videos get after Ctrl-C; under SLURM's KillWait of 30")


class Config(Block):
    """Everything a run depends on."""

    videos: str = Field("sample", description="a folder (recursive), a CSV, or `sample` for the rendered clips")
    output: str = Field("output", description="folder of everything a run writes")
    preset: Literal["cpu", "gpu"] = Field("cpu", description="switches all backends at once")
    batch_size: Count | None = Field(
        None, description="videos per job, models are loaded once per job; none: 64, more where that would make over 500 batches"
    )
    only: tuple[str, ...] = Field((), description="ids or glob patterns: work on these videos alone")
    min_tier: Tier = Field("C", description="worst depth packaged: A sensor, B learned, C structure from motion, D prior")
    required: tuple[Part, ...] = Field(
        ("depth", "tracks"), description="parts a video must have; without another part it is kept, with that part named invalid"
    )
    keep: tuple[Literal["ingest", "depth", "tracks", "hands"], ...] = Field(
        ("ingest", "depth", "tracks", "hands"), description="stages whose artifacts stay once everything that reads them is done"
    )
    redo_limit: Annotated[float, Field(ge=0)] = Field(
        1.0, description="hours of finished work that a changed setting may redo unasked; name the stage in redo to allow more"
    )
    redo: tuple[str, ...] = Field((), description="stages whose finished work may be redone beyond redo_limit")
    max_quarantined: int = Field(0, ge=0, description="videos that may be lost without failing the run")
    max_vanished: Share = Field(0.1, description="share of known videos whose source may be missing before a run stops")
    lease_wait_s: Annotated[float, Field(ge=0)] = Field(
        86_400.0, description="seconds to wait for a batch that another run works on; on SLURM a job waits in the queue instead"
    )
    disk_budget_gb: Positive | None = Field(None, description="stop starting videos when output grows beyond this; none: no limit")
    seed: int = Field(0, ge=0, description="of everything drawn at random; splits have their own")
    models_dir: str = Field("thirdparty/weights", description="weights; relative to the checkout")
    envs_dir: str = Field("thirdparty/envs", description="the models' own environments; relative to the checkout")
    accept_licences: tuple[str, ...] = Field((), description="models whose licence you accept without being asked")
    ingest: IngestSettings = IngestSettings()
    depth: DepthSettings = DepthSettings()
    tracks: TracksSettings = TracksSettings()
    hands: HandsSettings = HandsSettings()
    create_h5: CreateH5Settings = CreateH5Settings()
    statistics: StatisticsSettings = StatisticsSettings()
    pool: PoolSettings = PoolSettings()
    overrides: dict[str, dict[str, dict[str, Any]]] = Field(
        {}, description="id or glob pattern -> stage -> settings for those videos; later patterns win"
    )

    @model_validator(mode="after")
    def _overrides_are_valid(self) -> Config:
        for pattern in self.overrides:
            self._with_overrides([pattern])
        return self

    def _with_overrides(self, patterns: list[str]) -> dict[str, Any]:
        blocks: dict[str, Any] = {stage: getattr(self, stage) for stage in STAGES}
        for pattern in patterns:
            for stage, changes in self.overrides[pattern].items():
                if stage not in blocks:
                    raise ValueError(_unknown(f"overrides.{pattern}.{stage}", stage, STAGES))
                merged = deep_merge(blocks[stage].model_dump(), changes)
                blocks[stage] = type(blocks[stage]).model_validate(merged)
        return blocks

    def variant_key(
        self, video: str, *, has_depth: bool = False, imported: tuple[str, ...] = ()
    ) -> tuple[tuple[str, ...], bool, tuple[str, ...]]:
        """What `for_video` depends on: videos with equal keys have equal settings."""
        return tuple(p for p in self.overrides if fnmatch.fnmatchcase(video, p)) if self.overrides else (), has_depth, imported

    def for_video(self, video: str, *, has_depth: bool = False, imported: tuple[str, ...] = ()) -> dict[str, Any]:
        """Resolved settings of one video: stage name to its block, ``backend`` never ``preset``.

        Args:
            video: the video's id, matched against the patterns of ``overrides``.
            has_depth: its row names a depth file, which makes ``rgbd`` its depth backend unless an override says otherwise.
            imported: stages that its row says were imported, which makes `IMPORTED` their backend, whatever the stage's own is,
                unless an override says otherwise.
        """
        matching, *_ = self.variant_key(video, has_depth=has_depth)
        blocks = self._with_overrides(list(matching))
        for stage, block in blocks.items():
            if block.backend == "preset":
                given = "rgbd" if stage == "depth" and has_depth else PRESETS[self.preset][stage]
                blocks[stage] = block.model_copy(update={"backend": given})
            if stage in imported and not any("backend" in self.overrides[p].get(stage, {}) for p in matching):
                blocks[stage] = blocks[stage].model_copy(update={"backend": IMPORTED})
            if block.seed is None:
                blocks[stage] = blocks[stage].model_copy(update={"seed": self.seed})
            blocks[stage] = blocks[stage].model_copy()
            blocks[stage]._folders = (self.models_dir, self.envs_dir)
        tracks, packaging = blocks["tracks"], blocks["create_h5"]
        run_wide = {"min_tier": self.min_tier, "required": self.required}
        run_wide |= {"window_length": tracks.window_length, "stride": tracks.stride}
        unset = {key: value for key, value in run_wide.items() if getattr(packaging, key) is None}
        blocks["create_h5"] = packaging.model_copy(update=unset)
        return blocks

    def digest(self) -> str:
        """SHA-256 of the whole tree, hex; names the run folder."""
        return sha256_of(self.model_dump(mode="json"))


def deep_merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` on top, mappings merged key by key, everything else replaced."""
    out = dict(base)
    for key, value in changes.items():
        old = out.get(key)
        out[key] = deep_merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def load_config(path: Path, changes: Mapping[str, Any] | None = None) -> Config:
    """Reads a YAML file and puts ``changes`` (a nested mapping) on top.

    Raises:
        ConfigError: unreadable, unknown keys or values out of range; the text names key, value and what is allowed.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path}: expected a mapping of settings, found {type(tree).__name__}")
    return parse_config(deep_merge(tree, changes or {}))


def parse_config(tree: Mapping[str, Any]) -> Config:
    """A validated `Config` from a nested mapping; see `load_config` for errors."""
    try:
        return Config.model_validate(dict(tree))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error))) from error


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of every setting below ``model``, depth first."""
    for name, field in model.model_fields.items():
        yield prefix + name
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from known_keys(kind, f"{prefix}{name}.")


def _explain(error: ValidationError) -> Iterator[str]:
    known = list(known_keys(Config))
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            yield _unknown(key, key, known)
        else:
            where = f"{key} is {item['input']!r}: " if key else ""
            yield f"{where}{item['msg'].removeprefix('Value error, ')}"


def _unknown(key: str, wanted: str, known: list[str] | tuple[str, ...]) -> str:
    leaf = {name: name for name in known} | {name.rsplit(".", 1)[-1]: name for name in reversed(list(known))}
    close = difflib.get_close_matches(wanted, known, 1, 0.6) or difflib.get_close_matches(wanted.rsplit(".", 1)[-1], leaf, 1, 0.6)
    hint = f"did you mean {leaf[close[0]]}?" if close else "see config.yaml for all of them"
    return f"unknown setting {key}: {hint}"
