"""What supervisor and worker say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from videolift.pool.types import Device, Item

FailureKind = Literal["bad_input", "oom", "crash", "error", "transient", "backend"]


@dataclass(frozen=True)
class Start:
    """The first message to a worker.

    Attributes:
        factory: the pickled factory of the user's `Worker`.
        preparation: for ``multiprocessing.spawn.prepare``: where the factory's module is found.
        device: what the worker runs on.
        progress_every_s: progress is sent at most this often.
    """

    factory: bytes
    preparation: dict[str, Any]
    device: Device
    progress_every_s: float


@dataclass(frozen=True)
class Work:
    """Do this item, with this share of the chunk size."""

    item: Item
    shrink: float


@dataclass(frozen=True)
class Close:
    """Close and end."""


@dataclass(frozen=True)
class Ready:
    """Loaded; waiting for work. ``shrinks`` are the worker's own; ``peak_rss_bytes`` the most memory of its process so far."""

    shrinks: tuple[float, ...]
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class Progress:
    """The item is alive."""

    done: int
    total: int


@dataclass(frozen=True)
class Done:
    """The item's result is recorded; ``value`` is pickled on its own, so that an odd one harms only its item.

    ``peak_rss_bytes`` and ``rest_rss_bytes`` are of the worker's own process: the most during the item, and after it.
    """

    value: bytes
    peak_rss_bytes: int | None
    rest_rss_bytes: int | None


@dataclass(frozen=True)
class Failed:
    """User code raised, in loading or on an item. Exceptions never travel, only what they say.

    Attributes:
        kind: by the exception's type.
        code, text, remedy, traceback: as in `Outcome`.
        peak_bytes: most memory in use by what the exception itself says, None if it says nothing.
        peak_rss_bytes: most resident memory of the worker's own process during it.
        poisoned: the process cannot go on (sticky CUDA error); replace it.
        device_lost: the card itself is at fault; fence it.
        loading: raised before the worker was ready.
    """

    kind: FailureKind
    code: str
    text: str
    remedy: str = ""
    traceback: str = ""
    peak_bytes: int | None = None
    peak_rss_bytes: int | None = None
    poisoned: bool = False
    device_lost: bool = False
    loading: bool = False


Message = Ready | Progress | Done | Failed
