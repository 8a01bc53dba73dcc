"""The contract between a stage and its backends.

A backend turns a video's inputs into one artifact. It knows no queue, no path of the output folder and no Snakemake: it reads
`Inputs`, writes to the writer it is given, and returns a `Quality`. The worker publishes. Adding a backend is one file,
``stages/{stage}/{name}.py`` with a ``BACKEND`` class (docs/extending.md). Failures are told by type (`videolift.errors`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from videolift.artifacts import Artifact, ArtifactWriter, Clip, Depth, Hands, Tracks
from videolift.artifacts.object_masks import ObjectMasks
from videolift.config import Block
from videolift.inputs.catalog import Video
from videolift.pool import Device

if TYPE_CHECKING:
    from videolift.inputs.masks import Masks

Progress = Callable[[int, int], None]
"""``progress(done, total)``: at least once per chunk of work; none for ``pool.item_timeout_s`` counts as a hang."""


@dataclass(frozen=True)
class Inputs:
    """What a backend may read for one video. Artifacts are open, lazy, and None where the stage does not read them."""

    video: Video
    """The catalog's row; ``video.path`` is the source, ``video.depth``, ``video.mask``, ``video.calib`` files of the user's."""
    clip: Clip | None = None
    depth: Depth | None = None
    tracks: Tracks | None = None
    hands: Hands | None = None
    masks: ObjectMasks | None = None
    others: Mapping[str, Artifact] = field(default_factory=dict)
    """Artifacts of stages that have no field here, by stage name."""
    missing: dict[str, str] = field(default_factory=dict)
    """Stage name to the reason why its artifact is absent; only for stages that may go on without it."""
    lineage: dict[str, Any] = field(default_factory=dict)
    """Stage name to what its receipt says of it (backend, versions, shrink, checks); create_h5 puts it on the card."""

    @contextmanager
    def open_masks(self) -> Iterator[ObjectMasks | Masks | None]:
        """Instance ids u8 (H, W) by frame of the clip: what the stage masks made, where it is switched off the row's file.

        None where there are none.

        Raises:
            BadInput: ``mask``; see `videolift.inputs.masks.open_masks`.
        """
        if self.masks is not None:
            yield self.masks if self.masks.objects else None
        elif self.video.mask is None or self.clip is None or "masks" in self.missing:
            # Where following failed, the image that was to be followed from the first frame is no mask of all frames.
            yield None
        else:
            # It brings PyAV, which the process that plans a run does without.
            from videolift.inputs.masks import open_masks

            with open_masks(self.video.mask, self.clip) as masks:
                yield masks


@dataclass(frozen=True)
class Quality:
    """What a backend says of its own result; goes to the receipt and to `videolift status`."""

    frames: int
    checks: tuple[str, ...] = ()
    """Sentences a person should read: fall-backs taken, gates that were close, parts that are missing."""
    figures: dict[str, float] = field(default_factory=dict)


class Backend(ABC):
    """One way to do a stage; what is not overridden is a deterministic function on the CPU, without settings and without a model.

    Constructing it is cheap and works on a head node; `load` is where weights and devices come in.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised by hand when results change; a test notices code that moved without it."""
    writer: ClassVar[type[ArtifactWriter]]
    """The artifact it writes."""
    settings_model: ClassVar[type[Block] | None] = None
    """Its own settings: the block ``name`` in the stage's block of config.yaml, read by ``settings.of(...)``."""
    presets: ClassVar[tuple[str, ...]] = ()
    """Presets that take it; of a stage's backends one at most may name a preset."""
    row_file: ClassVar[str | None] = None
    """Column of the table of videos; under `preset`, a video whose row names such a file is done by this backend."""
    env: ClassVar[str | None] = None
    """Name of the environment under envs/ that it needs, None for ours."""
    packages: ClassVar[tuple[str, ...]] = ()
    """What it imports of ours that some platform has no wheel of."""
    cost: ClassVar[str] = ""
    """For a plan, where nothing was measured yet: what it downloads once, and what a frame costs."""
    builds_env: ClassVar[bool] = False
    """The workflow builds ``env`` before its first job: it needs neither a licence nor a compiler."""
    device: ClassVar[Literal["cpu", "cuda", "any"]] = "cpu"
    """What its workers run on; ``any`` is a card where there is one, else the CPU, slowly. A job on cards asks for one."""
    deterministic: ClassVar[bool] = True
    """Equal inputs give equal bytes."""
    shrinks: ClassVar[tuple[float, ...]] = (1.0,)
    """Shares of its chunk size tried after out of memory, e.g. (1, 1/2, 1/4); (1,) where shrinking would change the result."""
    _settings: Any
    about: Mapping[str, Any] = {}
    """What a loaded model says of itself, for `videolift doctor`."""

    def __init__(self, settings: Any, *, root: Path) -> None:
        """Takes its stage's settings as they are for a video (`stages.settings.settings_for`) and the models' root."""
        self._settings = settings

    @property
    def weights(self) -> Sequence[str]:
        """Names in thirdparty/models.yaml, or paths, of the weights it loads."""
        return ()

    @property
    def checkouts(self) -> Mapping[str, str | None]:
        """Repositories it runs from, by their name in thirdparty/models.yaml, each with the user's own folder for it, if any."""
        return {}

    @property
    def python(self) -> str | None:
        """An interpreter of the user's instead of the environment ``env``."""
        return None

    def identity(self) -> dict[str, Any]:
        """What enters the fingerprint: those settings that change the result, hashes of weights. Cheap, JSON-able, no GPU.

        Names what it takes, so that a setting of another backend changes nothing.
        """
        # The backend's own block alone: another backend's setting must not make this one's work stale.
        own = self._settings.of(self.settings_model).model_dump(mode="json") if self.settings_model else {}
        return {"options": self._settings.options, **own}

    def load(self, device: Device) -> None:  # noqa: B027  nothing to load is the default
        """Loads weights, starts interpreters.

        Raises:
            BackendUnavailable: something is missing; the text ends with the command to type.
        """

    @abstractmethod
    def process(self, inputs: Inputs, out: Any, *, shrink: float, progress: Progress) -> Quality:
        """Works on one video, starting at ``out.committed``; ``out`` is a `writer`.

        Raises:
            BadInput: this video cannot be processed; it is quarantined at once.
            OutOfMemory: retried alone with the next of `shrinks`.
            Transient: the disk, not the video.
        """

    def close(self) -> None:  # noqa: B027  likewise
        """Releases what `load` took. Called once, also after errors."""
