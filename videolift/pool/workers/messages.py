"""What supervisor and worker say to each other, and the socket they say it over.

Messages are pickled dataclasses behind a length, small by contract (results are paths, not arrays); larger ones are refused. A
worker can be killed or stopped half way through one, and the supervisor must hang neither on the missing half nor on a worker that
does not read: its end never waits. What has arrived is split into whole messages, what cannot be sent yet is kept.
"""

from __future__ import annotations

import pickle
import socket
import struct
from dataclasses import dataclass
from typing import Any, Literal

from videolift.pool.interface import Device, Item

FailureKind = Literal["bad_input", "oom", "crash", "error", "transient", "backend", "descriptors"]


@dataclass(frozen=True)
class StartWorker:
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
class DoItem:
    """Do this item, with this share of the chunk size. ``claim`` is a number of its own for every claim of the run, from 1."""

    item: Item
    shrink: float
    claim: int


@dataclass(frozen=True)
class EndWorker:
    """Close and end."""


@dataclass(frozen=True)
class WorkerReady:
    """Loaded; waiting for work. ``shrinks`` are the worker's own; ``peak_rss_bytes`` the most memory of its process so far."""

    shrinks: tuple[float, ...]
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class ItemProgress:
    """The item of ``claim`` is alive."""

    claim: int
    done: int
    total: int


@dataclass(frozen=True)
class ItemDone:
    """The item's result is recorded.

    Attributes:
        key, claim: which item, by which claim: what does not fit what the worker was given is believed of no item.
        value: pickled on its own, so that an odd one harms only its item.
        peak_rss_bytes, rest_rss_bytes: of the worker's own process: the most during the item, and after it.
    """

    key: str
    claim: int
    value: bytes
    peak_rss_bytes: int | None
    rest_rss_bytes: int | None


@dataclass(frozen=True)
class AttemptFailed:
    """User code raised, in loading or on an item. Exceptions never travel, only what they say.

    Attributes:
        kind: by the exception's type.
        code, text, remedy, traceback: as in `Outcome`.
        key, claim: as in `ItemDone`; empty and 0 in loading.
        peak_bytes: most memory in use by what the exception itself says, None if it says nothing.
        peak_rss_bytes: most resident memory of the worker's own process during it.
        poisoned: the process cannot go on (sticky CUDA error, leaked descriptors); replace it.
        device_lost: the device, or the driver on this machine, is at fault; fence it.
        no_room: the disk is full, over quota or read-only.
        oom_if_full: it ran out of memory if the device is nearly full, and is of ``kind`` otherwise.
    """

    kind: FailureKind
    code: str
    text: str
    remedy: str = ""
    traceback: str = ""
    key: str = ""
    claim: int = 0
    peak_bytes: int | None = None
    peak_rss_bytes: int | None = None
    poisoned: bool = False
    device_lost: bool = False
    no_room: bool = False
    oom_if_full: bool = False


WorkerMessage = WorkerReady | ItemProgress | ItemDone | AttemptFailed

MAX_MESSAGE_BYTES = 1 << 20
_LENGTH = struct.Struct("<I")
_SLACK_BYTES = 1 << 12
"""Of the dataclass around a value that was just small enough."""


class MessageTooLarge(ValueError):
    """A message above `MAX_MESSAGE_BYTES`: results are to be written to files and named, not sent."""


def encode(message: Any) -> bytes:
    """One frame.

    Raises:
        MessageTooLarge: pickled, it is larger than `MAX_MESSAGE_BYTES`.
        Exception: whatever pickling a user's value raises.
    """
    body = pickle.dumps(message, protocol=5)
    if len(body) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"{len(body) / 2**20:.1f} MiB to be sent between worker and supervisor, at most 1 MiB is allowed: "
            "write it to a file and return the path"
        )
    return _LENGTH.pack(len(body)) + body


def receive_blocking(connection: socket.socket) -> Any:
    """The next message; waits for it.

    Raises:
        EOFError: the other end is gone.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return pickle.loads(_exactly(connection, length))


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


class Channel:
    """The supervisor's end of one worker's socket. Nothing here ever waits.

    Attributes:
        open: the worker has not closed its end.
        fault: why what came can be no message of a worker of ours; empty while all is well.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self.open = True
        self.fault = ""

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        """Something waits until the worker reads."""
        return bool(self._outgoing) and self.open

    def send(self, frame: bytes) -> None:
        """Sends what `encode` made, now or as soon as the worker reads; a dead worker's messages vanish."""
        self._outgoing += frame
        self.flush()

    def flush(self) -> None:
        """Sends as much as fits."""
        # A worker whose native code holds the interpreter does not read for minutes; what does not fit waits in memory.
        try:
            while self._outgoing and self.open:
                sent = self._socket.send(self._outgoing)
                del self._outgoing[:sent]
        except BlockingIOError:
            pass
        # It is dead; its end is seen elsewhere.
        except (BrokenPipeError, ConnectionResetError):
            self._outgoing.clear()

    def receive(self) -> list[WorkerMessage]:
        """Every whole message that has arrived; clears `open` at the end of the stream, where half a message is dropped.

        User code can write to any descriptor of its process, this socket included: what is not a message sets `fault` and ends it.
        """
        try:
            while self.open:
                part = self._socket.recv(1 << 16)
                if not part:
                    self.open = False
                self._incoming += part
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.open = False
        messages: list[WorkerMessage] = []
        start = 0
        while len(self._incoming) - start >= _LENGTH.size and not self.fault:
            (length,) = _LENGTH.unpack_from(self._incoming, start)
            end = start + _LENGTH.size + length
            if length > MAX_MESSAGE_BYTES + _SLACK_BYTES:
                self.fault = f"announced a message of {length} bytes"
                break
            if end > len(self._incoming):
                break
            try:
                message = pickle.loads(self._incoming[start + _LENGTH.size : end])
            except Exception as error:  # noqa: BLE001  bytes that are not a pickle may raise anything
                self.fault = f"sent what cannot be read: {type(error).__name__}: {error}"
                break
            start = end
            if isinstance(message, WorkerMessage):
                messages.append(message)
            else:
                self.fault = f"sent a {type(message).__name__}"
        del self._incoming[:start]
        if self.fault:
            self.open = False
        return messages

    def close(self) -> None:
        """Closes the socket; the worker, if it lives, sees the end of the stream and ends."""
        self.open = False
        self._socket.close()
