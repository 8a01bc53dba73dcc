"""The contract between a stage and its backends.

A backend turns a video's inputs into one artifact. It knows no queue, no path of the output folder and no Snakemake: it reads
`Inputs`, writes to the writer it is given, and returns a `Quality`. The worker publishes. Adding a backend is one file:
``stages/{stage}/{name}.py`` with a ``BACKEND`` class. Failures are told by type (`videolift.errors`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from videolift.artifacts import ArtifactWriter, Clip, Depth, Hands, Tracks
from videolift.inputs.catalog import Video
from videolift.pool import Device

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
    missing: dict[str, str] = field(default_factory=dict)
    """Stage name to the reason why its artifact is absent; only for stages that may go on without it."""
    lineage: dict[str, Any] = field(default_factory=dict)
    """Stage name to what its receipt says of it (backend, versions, shrink, checks); create_h5 puts it on the card."""


@dataclass(frozen=True)
class Quality:
    """What a backend says of its own result; goes to the receipt and to `videolift status`."""

    frames: int
    checks: tuple[str, ...] = ()
    """Sentences a person should read: fall-backs taken, gates that were close, parts that are missing."""
    figures: dict[str, float] = field(default_factory=dict)


class Backend(Protocol):
    """One way to do a stage. Constructing it is cheap and works on a head node; `load` is where weights and devices come in."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised by hand when results change; a test notices code that moved without it."""
    env: ClassVar[str | None]
    """Name of the environment under envs/ that it needs, None for ours."""
    device: ClassVar[Literal["cpu", "cuda"]]
    """What its workers run on; a rule with a ``cuda`` backend asks for a card."""
    deterministic: ClassVar[bool]
    """Equal inputs give equal bytes."""
    shrinks: ClassVar[tuple[float, ...]]
    """Shares of its chunk size tried after out of memory, e.g. (1, 1/2, 1/4); (1,) where shrinking would change the result."""
    writer: ClassVar[type[ArtifactWriter]]
    """The artifact it writes."""

    def __init__(self, settings: Any, *, root: Path) -> None:
        """Takes its stage's resolved block (`videolift.config.Config.for_video`) and the checkout's root; imports nothing heavy."""

    def identity(self) -> dict[str, Any]:
        """What enters the fingerprint: those settings that change the result, hashes of weights. Cheap, JSON-able, no GPU."""

    def load(self, device: Device) -> None:
        """Loads weights, starts interpreters.

        Raises:
            BackendUnavailable: something is missing; the text ends with the command to type.
        """

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Works on one video, starting at ``out.committed``.

        Raises:
            BadInput: this video cannot be processed; it is quarantined at once.
            OutOfMemory: retried alone with the next of `shrinks`.
            Transient: the disk, not the video.
        """

    def close(self) -> None:
        """Releases what `load` took. Called once, also after errors."""
