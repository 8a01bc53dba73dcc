"""Messages over a socket: pickled objects behind a length, read without ever waiting for the rest of one.

A worker can be killed or stopped half way through a message; the supervisor must not hang on the missing half, nor on a worker that
does not read. So its end never blocks: what has arrived is split into whole messages, what cannot be sent yet is kept. Messages are
small by contract (results are paths, not arrays) and larger ones are refused. This module does not know what the messages say.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

MAX_MESSAGE_BYTES = 1 << 20
_LENGTH = struct.Struct("<I")


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
    """The supervisor's end of one worker's socket. Nothing here ever waits."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self.open = True

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
        try:
            while self._outgoing and self.open:
                sent = self._socket.send(self._outgoing)
                del self._outgoing[:sent]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            self._outgoing.clear()

    def receive(self) -> list[Any]:
        """Every whole message that has arrived; clears `open` at the end of the stream, where half a message is dropped."""
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
        return self._whole_messages()

    def _whole_messages(self) -> list[Any]:
        messages, start = [], 0
        while len(self._incoming) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._incoming, start)
            end = start + _LENGTH.size + length
            if end > len(self._incoming):
                break
            messages.append(pickle.loads(self._incoming[start + _LENGTH.size : end]))
            start = end
        del self._incoming[:start]
        return messages

    def close(self) -> None:
        """Closes the socket; the worker, if it lives, sees the end of the stream and ends."""
        self.open = False
        self._socket.close()
