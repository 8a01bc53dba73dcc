"""What every configuration has: the run-wide settings, and the blocks that settings of stages and backends are made of.

The whole tree, with each stage's and each backend's own settings, is put together by `stages.settings` from where they are
declared; this module knows neither. Unknown keys are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from videolift.errors import ConfigError
from videolift.stage_table import PARTS, releasable
from videolift.store import sha256_of

RELEASABLE = releasable()
# mypy takes no Literal that is computed, and pydantic needs one to refuse other names.
if TYPE_CHECKING:
    Part = str
    Kept = str
else:
    Part = Literal[PARTS]
    Kept = Literal[RELEASABLE]
Tier = Literal["A", "B", "C", "D"]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Block(BaseModel):
    """A node of the tree: immutable, unknown keys refused."""

    # Infinity and NaN pass for numbers in YAML, and for limits that nothing exceeds.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


B = TypeVar("B", bound=Block)


def inherited(source: str, description: str) -> Any:
    """A setting that is None and then takes the value of another.

    Args:
        source: a run-wide setting, or ``stage.setting``.
        description: of the setting.
    """
    return Field(None, description=description, json_schema_extra={"inherits": source})


def user_path(text: str | Path) -> Path:
    """A path as a person wrote it, with ``~`` and ``~name`` replaced by the home they stand for.

    Raises:
        ConfigError: this machine knows no user of that name.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{text}: this machine knows no such user; write the folder's full path") from error


class StageBlock(Block):
    """What every stage has: a backend by name, and free ``options`` for a backend that ships outside this tree.

    `stages.settings.settings_for` also puts the run's folders on it, which a backend needs and which are not settings of the stage:
    they change no result, are not dumped, and enter no fingerprint.
    """

    backend: str = Field("preset", description="backend by name; `preset` takes the one of the chosen preset")
    options: dict[str, Any] = Field({}, description="settings of a backend of your own, checked by that backend")
    seed: Annotated[int, Field(ge=0)] | None = inherited("seed", "of what this stage draws at random; none takes the run's seed")
    _folders: tuple[str, str] = PrivateAttr(("thirdparty/weights", "thirdparty/envs"))

    def of(self, model: type[B]) -> B:
        """One backend's settings in this block, by their class; its defaults where the block was made without them."""
        found = [value for value in vars(self).values() if isinstance(value, model)]
        return found[0] if found else model()

    def in_folders(self, models_dir: str, envs_dir: str) -> StageBlock:
        """The same with the run's folders on it."""
        copy = self.model_copy()  # settings are frozen; the private attribute of a fresh copy is not shared yet
        copy._folders = (models_dir, envs_dir)
        return copy

    @property
    def models_dir(self) -> str:
        """The run's folder of weights, relative to the checkout, or to ~/.cache/videolift of an installed videolift."""
        return self._folders[0]

    @property
    def envs_dir(self) -> str:
        """The run's folder of the models' environments, relative like `models_dir`."""
        return self._folders[1]


class SplitSettings(Block):
    """Which videos train: drawn by subject, else by source, so that neither is in two splits; the table's `split` wins"""

    seed: int = Field(0, ge=0, description="its own: another seed of the run moves no video between splits")
    train: Share = Field(0.8, description="expected share; the three sum to 1, changing them moves videos")
    val: Share = Field(0.1, description="likewise")
    test: Share = Field(0.1, description="likewise")

    @model_validator(mode="after")
    def _whole(self) -> SplitSettings:
        if abs(self.train + self.val + self.test - 1) > 1e-9:  # in floats 0.7 + 0.2 + 0.1 is not 1
            raise ValueError(f"train, val and test are {self.train}, {self.val} and {self.test}: they must sum to 1")
        return self


class StatisticsSettings(Block):
    """Normalization statistics over all done videos."""

    group: str | None = Field(None, description="of the main file, e.g. A-metric; none takes the best one present")
    splits: SplitSettings = SplitSettings()


class PoolSettings(Block):
    """Workers of a stage (videolift.pool)."""

    max_workers: Count | None = Field(None, description="most workers per device, cards and CPU alike; none: measured")
    margin: Annotated[float, Field(ge=0)] = Field(0.15, description="added to the measured peak memory, as a share")
    reserve_gb: Annotated[float, Field(ge=0)] = Field(1.0, description="memory per device left to others")
    allow_shrink: bool = Field(True, description="on out of memory retry with smaller chunks before giving up")
    attempts: Count = Field(3, description="crashes or hangs after which a video is quarantined")
    transient_retries: Annotated[int, Field(ge=0)] = Field(
        3, description="I/O errors of one video after which the pool stops politely; a full disk stops it at once"
    )
    backoff_s: Positive = Field(
        2.0, description="seconds before the first retry after a storage error or a failed load; doubled each time"
    )
    load_timeout_s: Positive = Field(900.0, description="seconds for loading a model")
    item_timeout_s: Positive = Field(600.0, description="seconds without any progress that count as a hang")
    grace_s: Positive = Field(25.0, description="seconds that running videos get after Ctrl-C; under SLURM's KillWait of 30")


class Config(Block):
    """Everything a run depends on, except the settings of single stages.

    A user's configuration also has a block per stage; those come from the stages and their backends
    (`stages.settings.config_model`), and the library needs none of them.
    """

    videos: str = Field("sample", description="a folder (recursive), a CSV, or `sample` for the rendered clips")
    output: str = Field("output", description="folder of everything a run writes")
    preset: Literal["cpu", "laptop", "gpu", "permissive"] = Field(
        "cpu",
        description="switches all backends at once; cpu: downloads nothing; laptop: a small model where motion shows no depth; "
        "gpu: models on a card; permissive: likewise, all free for commercial use",
    )
    batch_size: Count | None = Field(
        None, description="videos per job, models are loaded once per job; none: 64, more where that would make over 500 batches"
    )
    only: tuple[str, ...] = Field((), description="ids or glob patterns: work on these videos alone")
    shards: Count = Field(1, description="runs that share the videos, each with an output of its own; `videolift merge` joins them")
    shard: Annotated[int, Field(ge=0)] = Field(0, description="which of them this one is, from 0")
    min_tier: Tier = Field("C", description="worst depth packaged: A sensor, B learned, C structure from motion, D prior")
    required: tuple[Part, ...] = Field(
        ("depth", "tracks"), description="parts a video must have; without another part it is kept, with that part named invalid"
    )
    keep: tuple[Kept, ...] = Field(RELEASABLE, description="stages whose artifacts stay once everything that reads them is done")
    preview: Literal["none", "worst", "all"] = Field(
        "worst", description="which packaged videos get a preview: none, of each batch the one with the worst scores, or all"
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
    models_dir: str = Field(
        "thirdparty/weights", description="weights; relative to the checkout, of an installed one to ~/.cache/videolift"
    )
    envs_dir: str = Field("thirdparty/envs", description="the models' own environments; relative likewise")
    accept_licences: tuple[str, ...] = Field((), description="models whose licence you accept without being asked")
    statistics: StatisticsSettings = StatisticsSettings()
    pool: PoolSettings = PoolSettings()
    overrides: dict[str, dict[str, dict[str, Any]]] = Field(
        {}, description="id or glob pattern -> stage -> settings for those videos; later patterns win"
    )

    @model_validator(mode="after")
    def _among_shards(self) -> Config:
        if self.shard >= self.shards:
            raise ValueError(f"shard is {self.shard} of {self.shards} shards: they are counted from 0 to {self.shards - 1}")
        return self

    def digest(self) -> str:
        """SHA-256 of the whole tree, hex; names the run folder."""
        return sha256_of(self.model_dump(mode="json"))

    @classmethod
    def of_run(cls, tree: Mapping[str, Any]) -> Config:
        """What a run has recorded of itself, without the stages' blocks: reading it needs no backend."""
        return cls.model_validate({name: tree[name] for name in cls.model_fields if name in tree})
