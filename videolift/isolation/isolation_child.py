"""The child's side of `videolift.isolation.isolated`: runs one worker file and answers frames.

Started as ``python -I isolation_child.py WORKER READ_FD WRITE_FD PARENT_PID`` by an interpreter that has numpy and nothing of
ours; so this file imports the standard library and numpy alone, runs on Python 3.9, and keeps our packages off ``sys.path``. A
worker file defines ``load(meta) -> meta`` and ``call(meta, arrays, progress) -> (meta, arrays)``; it may take `RefusedInput`,
`require_arguments`, `SignsOfLife` from the module name ``videolift_child``, and what reads checkpoints
(`videolift.isolation.checkpoints`) from ``videolift_checkpoints``. The parent imports the frame functions from here, so both sides
have one wire format.
"""

from __future__ import annotations

import ctypes
import importlib.util
import inspect
import json
import math
import os
import resource
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

PROTOCOL = 2
HEADER_LIMIT = 1 << 20
PAYLOAD_LIMIT = 4 << 30
ARRAY_LIMIT = 64
DTYPES = ("|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8")
_LENGTH = struct.Struct("<I")

Arrays = Mapping[str, np.ndarray]


class FrameError(ValueError):
    """A frame that breaks the wire format, on either side."""


class RefusedInput(Exception):
    """A worker raises it for input that no retry will help; the parent raises its own `videolift.errors.BadInput` from it."""

    def __init__(self, code: str, text: str, remedy: str) -> None:
        super().__init__(f"{text} ({code}). {remedy}")
        self.code, self.text, self.remedy = code, text, remedy


def write_frame(stream: BinaryIO, header: dict[str, Any], arrays: Arrays) -> None:
    """Writes a frame: u32 header length, JSON header, arrays back to back.

    Raises:
        FrameError: a dtype off the list, more than 4 GiB, or a header above 1 MiB; nothing has been written.
    """
    described = [{"name": name, "dtype": a.dtype.str, "shape": list(a.shape)} for name, a in arrays.items()]
    check_arrays(described)
    text = json.dumps({**header, "arrays": described}, allow_nan=False).encode()
    if len(text) > HEADER_LIMIT:
        raise FrameError(f"header of {len(text)} bytes, at most {HEADER_LIMIT} are allowed: send long lists as arrays")
    stream.write(_LENGTH.pack(len(text)) + text)
    for array in arrays.values():
        if array.size:
            stream.write(np.asarray(array, order="C").data.cast("B"))
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Reads a frame; None at the end of the stream. All limits are checked before anything is allocated.

    Raises:
        FrameError: truncated or malformed.
    """
    prefix = stream.read(_LENGTH.size)
    if not prefix:
        return None
    if len(prefix) < _LENGTH.size:
        raise FrameError("stream ended within a frame's length")
    (length,) = _LENGTH.unpack(prefix)
    if length > HEADER_LIMIT:
        raise FrameError(f"header of {length} bytes announced, at most {HEADER_LIMIT} are allowed")
    text = stream.read(length)
    if len(text) != length:
        raise FrameError(f"stream ended after {len(text)} of {length} bytes")
    try:
        header = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FrameError(f"header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise FrameError(f"header is a {type(header).__name__}, not an object")
    described = check_arrays(header.pop("arrays", None))
    arrays: dict[str, np.ndarray] = {}
    for name, dtype, shape in described:
        array = arrays[name] = np.empty(shape, dtype)
        # A pipe gives what it holds, which may be less than was asked for.
        view, done = array.data.cast("B") if array.size else memoryview(b""), 0
        while done < len(view):
            got = stream.readinto(view[done:])  # type: ignore[attr-defined]
            if not got:
                raise FrameError(f"stream ended after {done} of {len(view)} bytes of an array")
            done += got
    return header, arrays


def check_arrays(described: Any) -> list[tuple[str, str, tuple[int, ...]]]:
    """Validated (name, dtype, shape) of a header's arrays.

    Raises:
        FrameError: not a list of at most 64, a name twice, a dtype off the list, a bad shape, more than 4 GiB in all.
    """
    if not isinstance(described, list) or len(described) > ARRAY_LIMIT:
        raise FrameError(f"arrays must be a list of at most {ARRAY_LIMIT}")
    total, out = 0, []
    for item in described:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str) or item.get("dtype") not in DTYPES:
            raise FrameError(f"array {item!r}: needs a name and a dtype of {', '.join(DTYPES)}")
        name, dtype, shape = item["name"], item["dtype"], item.get("shape")
        if not isinstance(shape, list) or len(shape) > 8 or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
            raise FrameError(f"array {name}: shape {shape!r} is not a list of at most 8 lengths")
        total += math.prod(shape) * np.dtype(dtype).itemsize
        # Checked before the first byte is allocated: a broken length must not take the machine's memory.
        if total > PAYLOAD_LIMIT:
            raise FrameError(f"arrays of more than {PAYLOAD_LIMIT} bytes: send fewer frames per call")
        out.append((name, dtype, tuple(shape)))
    if len({name for name, _, _ in out}) != len(out):
        raise FrameError("an array's name occurs twice")
    return out


class _Service:
    """Answers the parent's frames with one worker module."""

    def __init__(self, worker_path: str, source: BinaryIO, sink: BinaryIO) -> None:
        self._path, self._source, self._sink = worker_path, source, sink
        self._worker: Any = None

    def run(self) -> None:
        """Until the parent closes its end."""
        while True:
            frame = read_frame(self._source)
            if frame is None:
                return
            header, arrays = frame
            number, op, meta = header.get("id"), str(header.get("op")), header.get("meta") or {}
            out_meta: dict[str, Any] = {}
            out_arrays: Arrays = {}
            try:
                if op == "hello":
                    out_meta = {"protocol": PROTOCOL, "python": sys.version.split()[0], "numpy": np.__version__}
                elif op == "load":
                    # By its file, as a worker must not find our package: its own modules may have the same names.
                    here = os.path.dirname(os.path.abspath(__file__))
                    _import_file(os.path.join(here, "checkpoints.py"), "videolift_checkpoints")
                    self._worker = _import_file(self._path, "videolift_worker")
                    out_meta = self._worker.load(meta) or {}
                elif op == "call":
                    out_meta, out_arrays = self._worker.call(meta, arrays, self._progress(number))
                elif op != "close":
                    raise FrameError(f"op is {op!r}: hello, load, call or close")
                self._reply(number, "ok", out_meta or {}, out_arrays or {})
            # Asked to end: the parent sees the end of the stream and says so.
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  the border of a foreign program: whatever it raises becomes a reply
                self._reply(number, "error", describe_error(error), {})
            if op == "close":
                return

    def _progress(self, number: Any) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            self._reply(number, "progress", {"done": int(done), "total": int(total)}, {})

        return report

    def _reply(self, number: Any, kind: str, meta: dict[str, Any], arrays: Arrays) -> None:
        write_frame(self._sink, {"id": number, "kind": kind, "meta": meta, "peak_bytes": peak_bytes()}, arrays)


def describe_error(error: BaseException) -> dict[str, Any]:
    """What a reply says of an exception. What it means is judged by the parent, which knows the lists of errors."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    out = {
        "type": type(error).__name__,
        "bases": [kind.__name__ for kind in type(error).__mro__],
        "errno": error.errno if isinstance(error, OSError) else None,
        "text": str(error)[-4000:],
        "traceback": "".join(lines)[-20000:],
    }
    if isinstance(error, RefusedInput):
        out |= {"code": error.code, "text": error.text, "remedy": error.remedy}
    return out


def peak_bytes() -> int:
    """Most memory of the card this process has used, or its largest resident set where it uses no card."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def require_arguments(function: Callable[..., Any], *names: str) -> None:
    """Raises TypeError where a function of upstream's does not take what the worker will pass: another version is installed."""
    known = inspect.signature(function).parameters
    lacking = [name for name in names if name not in known]
    if lacking:
        raise TypeError(
            f"upstream's {function.__qualname__} takes no {', '.join(lacking)}: this is another version than the pinned one"
        )


class SignsOfLife:
    """Tells the parent that work goes on, at most every second, however often it is called: a forward hook of torch's, say.

    Upstream may compute in threads of its own, so two may tell at once: one lock keeps their frames on the pipe apart, and nothing
    follows the end.
    """

    every_s = 1.0

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self._lock, self._next_s, self._ended = threading.Lock(), 0.0, False

    def __call__(self, *_: object) -> None:
        """Tells, unless it did within the last second."""
        with self._lock:
            now = time.monotonic()
            if not self._ended and now >= self._next_s:
                self._next_s = now + self.every_s
                self._progress(self._done, self._total)

    def step(self) -> None:
        """One of ``total`` is done."""
        self._done = min(self._done + 1, self._total)
        self()

    def end(self) -> None:
        """Nothing is told from here on."""
        with self._lock:
            self._ended = True


def _import_file(path: str, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def serve_parent(worker_path: str, read_fd: str, write_fd: str, parent: str) -> None:
    """Serves until the parent closes its end, then leaves at once (a model's threads may never join)."""
    if sys.platform == "linux":  # SIGKILL when the parent ends, however it ends; elsewhere the closed pipe ends an idle child
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before the line above
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal group; the parent decides what ends
    sys.modules["videolift_child"] = sys.modules[__name__]
    # A checkout that was installed for editing puts its folder on every path, also on that of an interpreter which shares ours.
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not package.endswith(os.path.join("site-packages", "videolift")):
        sys.path[:] = [path for path in sys.path if os.path.realpath(path) != os.path.realpath(os.path.dirname(package))]
    with os.fdopen(int(read_fd), "rb") as source, os.fdopen(int(write_fd), "wb") as sink:
        _Service(worker_path, source, sink).run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Torch's and CUDA's threads and destructors can hang for minutes at a normal exit.
    os._exit(0)


if __name__ == "__main__":
    serve_parent(*sys.argv[1:])
