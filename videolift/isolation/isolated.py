"""A model in another interpreter: calls with named arrays, answered by a child process that imports nothing of ours.

Turns ``call(meta, arrays)`` into a frame on an inherited pipe and the child's reply into a result or an error of
`videolift.errors`. The models' own top-level names (``utils``, ``models``, ``datasets``), their licences and their torch stay
in there. The child's side is `videolift.isolation.isolation_child`: it only says what was raised; what that means is judged here.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from numpy.typing import NDArray

from videolift.errors import (
    BackendUnavailable,
    BadInput,
    Crash,
    OutOfMemory,
    Transient,
    is_descriptor_leak,
    is_storage_error,
    says_out_of_memory,
)
from videolift.isolation import isolation_child as wire
from videolift.processes import cleans_up_alone, exit_text, kill_all, log_tail, marked_processes

ChildReply = tuple[dict[str, Any], dict[str, NDArray[Any]]]
CHILD = Path(wire.__file__).resolve()
CLOSE_GRACE_S = 5.0
_KINDS = ("ok", "progress", "error")
# The most that Linux gives a user without privileges (fs.pipe-max-size), unless set otherwise.
_PIPE_BYTES = 1 << 20
_MARK = "VIDEOLIFT_MODEL_PROCESS"
"""Environment variable that marks a child and all it starts, with a value of its own."""


def child_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Our environment without what would lead another interpreter to our packages, and with ``changes`` on top."""
    # PYTHONPATH and the like would put our packages, and our numpy, in front of the model's.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"}
    return {**kept, "PYTHONUNBUFFERED": "1", **changes}


class Isolated:
    """One child process; started by the first use, started again after it died. Not thread-safe; a context manager.

    Args:
        python: the interpreter; needs numpy and what the worker file imports.
        script: the worker file (`videolift.isolation.isolation_child` says what it defines).
        env: variables on top of ours; PYTHON* of ours are not inherited.
        log: where the child's stdout and stderr are appended, None for a nameless file. A crash quotes its last lines.
    """

    def __init__(
        self,
        python: Path | str,
        script: Path | str,
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.python, self.script = Path(python), Path(script)
        self._env, self._log_path = dict(env or {}), log
        self._process: subprocess.Popen[bytes] | None = None
        self._to_child: BinaryIO | None = None
        self._from_child: BinaryIO | None = None
        self._log: BinaryIO | None = None
        self._log_start = 0
        self._count = 0
        self._nonce, self._started = secrets.token_hex(8), False
        self._load_meta: dict[str, Any] | None = None
        self.hello: dict[str, Any] = {}
        """What the child said of itself: protocol, python, numpy."""
        self.peak_bytes: int | None = None
        """Most memory of the card, or of its process without one, that the child had used when it last answered."""

    @property
    def pid(self) -> int | None:
        """The child's process id, None when none runs."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def load(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Starts the child and lets the worker load; what it returns. A child started anew later gets the same ``meta``.

        Raises:
            BackendUnavailable: the interpreter does not start, or the worker cannot load.
            OutOfMemory: loading alone needs more than there is.
        """
        self._load_meta = dict(meta)
        self._start()
        try:
            return self._exchange("load", self._load_meta, {}, None)[0]
        except Crash as error:
            self.kill()
            raise BackendUnavailable(f"{self.script.name} could not load under {self.python}: {error}") from error

    def call(
        self, meta: Mapping[str, Any], arrays: wire.Arrays, on_progress: Callable[[int, int], None] | None = None
    ) -> ChildReply:
        """One call of the worker: its meta and arrays. ``on_progress(done, total)`` for each progress the worker reports.

        Raises:
            BadInput, OutOfMemory, Transient: as the worker's own exception was understood.
            Crash: the child died, failed with an exception of its own, or broke the format; the text ends with its log.
            FrameError: ``arrays`` cannot be sent (dtype, more than 4 GiB); nothing was.
        """
        if self.pid is None:
            if self._load_meta is None:
                raise RuntimeError("call load first")
            self.load(self._load_meta)
        return self._exchange("call", dict(meta), arrays, on_progress)

    def close(self) -> None:
        """Ends the child; killed when it does not leave within 5 s. Safe to call twice."""
        self._close_streams()  # end of file is the signal to leave
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):  # still computing: killed below
                self._process.wait(timeout=CLOSE_GRACE_S)
        self.kill()

    def kill(self) -> None:
        """Ends the child at once, and with it whatever it has started: helpers of a model hold the card's memory too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._started:
            self._started = False
            # Found by their environment: with the child gone, nothing else says whose they were.
            kill_all(one for one in marked_processes(_MARK, self._nonce) if not cleans_up_alone(one))
        self._close_streams()
        if self._log is not None:
            self._log.close()
            self._log = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self) -> None:
        self.kill()
        if self._log_path is None:
            self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115  lives as long as the child
        else:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            self._log = self._log_path.open("a+b")
        # The log may be of a whole batch: what a crash quotes begins here.
        self._log_start = self._log.seek(0, os.SEEK_END)
        child_reads, we_write = os.pipe()
        we_read, child_writes = os.pipe()
        self._to_child, self._from_child = os.fdopen(we_write, "wb"), os.fdopen(we_read, "rb")
        try:
            self._process = subprocess.Popen(
                # -I: neither PYTHONPATH nor the current folder may put our packages, or the user's, in front of the model's.
                [str(self.python), "-I", str(CHILD), str(self.script.resolve())]
                + [str(child_reads), str(child_writes), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env={**child_environment(self._env), _MARK: self._nonce},
                pass_fds=(child_reads, child_writes),
            )
            self._started = True
        except OSError as error:
            self._close_streams()
            raise BackendUnavailable(f"cannot start {self.python}: {error}") from error
        finally:
            # Our copies: while they are open, the end of the child would never show as the end of its stream.
            os.close(child_reads)
            os.close(child_writes)
        if sys.platform == "linux":
            # Larger buffers: fewer switches between the two processes. Refused where the user's quota of pipe memory is used up.
            for descriptor in (we_write, we_read):
                with suppress(PermissionError):
                    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            self.hello, _ = self._exchange("hello", {"protocol": wire.PROTOCOL}, {}, None)
        except Crash as error:
            self.kill()
            raise BackendUnavailable(f"{self.python} did not answer: {error}") from error
        if self.hello.get("protocol") != wire.PROTOCOL:
            self.kill()
            raise BackendUnavailable(f"{self.python} speaks protocol {self.hello.get('protocol')}, expected {wire.PROTOCOL}")

    def _exchange(
        self, op: str, meta: dict[str, Any], arrays: wire.Arrays, on_progress: Callable[[int, int], None] | None
    ) -> ChildReply:
        assert self._to_child is not None
        self._count += 1
        try:
            wire.write_frame(self._to_child, {"id": self._count, "op": op, "meta": meta}, arrays)
        except BrokenPipeError as error:
            raise self._crashed("it ended") from error
        assert self._from_child is not None
        answered = False
        try:
            while not answered:
                frame = wire.read_frame(self._from_child)
                if frame is None:
                    raise self._crashed("it ended")
                header, reply_arrays = frame
                if header.get("id") != self._count or header.get("kind") not in _KINDS or not isinstance(header.get("meta"), dict):
                    raise self._crashed(f"it answered {str(header)[:200]} to request {self._count}")
                answered = header["kind"] != "progress"
                if not answered and on_progress is not None:
                    on_progress(header["meta"]["done"], header["meta"]["total"])
        except wire.FrameError as error:
            raise self._crashed(f"it broke the frame format: {error}") from error
        finally:
            if not answered:  # the child still works on what nobody waits for; the next call starts another
                self.kill()
        reply, self.peak_bytes = header["meta"], header.get("peak_bytes")
        if header["kind"] == "ok":
            return reply, reply_arrays
        meaning = _judge_child_error(reply, self.peak_bytes)
        if isinstance(meaning, (BadInput, OutOfMemory, Transient)):
            raise meaning
        # What it left behind is unknown: after an error of CUDA's, for one, every later call would fail too.
        tail = self.log_tail()
        self.kill()
        if isinstance(meaning, Crash):
            meaning = Crash(meaning.text, f"{meaning.log}\n{tail}".strip())
        raise meaning

    def _crashed(self, what: str) -> Crash | OutOfMemory:
        """Kills what is left of the child; the next call starts another."""
        # Set aside first: the waiting below must not be repeated by `kill`.
        process, self._process, ours = self._process, None, False
        if process is not None:
            try:
                process.wait(timeout=1.0)  # its exit status says more than our kill would
            except subprocess.TimeoutExpired:
                ours = True
                process.kill()
                process.wait()
        status = None if process is None else process.returncode
        tail = self.log_tail()
        self.kill()
        if status == -signal.SIGKILL and not ours:
            return OutOfMemory(None, "the model's process was killed by SIGKILL, as the kernel does when memory runs out")
        return Crash(f"the model's process: {what} ({exit_text(status)})", tail)

    def log_tail(self) -> str:
        """The last lines that the running child wrote to stdout and stderr."""
        if self._log is None:
            return ""
        return log_tail(self._log.fileno(), self._log_start)

    def _close_streams(self) -> None:
        for stream in (self._to_child, self._from_child):
            if stream is not None:
                with suppress(BrokenPipeError):  # the child left with part of a frame unread
                    stream.close()
        self._to_child = self._from_child = None


def _judge_child_error(meta: dict[str, Any], peak_bytes: int | None) -> BadInput | OutOfMemory | Transient | OSError | Crash:
    """What the child's report of an exception means here; OSError where its process has run out of descriptors."""
    bases, number, text = meta.get("bases") or [], meta.get("errno"), f"{meta.get('type')}: {meta.get('text')}"
    # The model's file raises the child's own class: ours cannot be imported there.
    if "RefusedInput" in bases and "code" in meta:
        return BadInput(meta["code"], meta["text"], meta["remedy"])
    # torch raises OutOfMemoryError on cards; its CPU allocator and CUDA's libraries only say so in a RuntimeError's text
    allocator = "RuntimeError" in bases and says_out_of_memory(text)
    if allocator or "MemoryError" in bases or meta.get("type") == "OutOfMemoryError":
        return OutOfMemory(peak_bytes, text)
    raised = OSError(number, text) if "OSError" in bases and isinstance(number, int) else OSError(text)
    if "OSError" in bases and is_storage_error(raised):
        return Transient(text)
    if is_descriptor_leak(raised):
        return raised
    return Crash(text, str(meta.get("traceback", "")))
