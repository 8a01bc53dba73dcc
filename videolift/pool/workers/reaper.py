"""Ends what outlives a killed supervisor: children of its workers, and its temporary folder.

The kernel ends the workers with their supervisor, but nobody ends what those had started. So each pool has a small process beside
it, in a session of its own, that waits for the end of a pipe which only the supervisor holds. After an orderly end it finds
nothing.
The second half of this file runs as a script by its path, so it imports the standard library alone and starts in some 10 ms.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

_WITHIN_S = 10.0
_CLEAN_UP_S = 2.0
"""For Python's remover of shared memory, which ends by itself once those it works for have ended."""


class OrphanReaper:
    """Runs beside a pool; a context manager (Linux; elsewhere it does nothing).

    Args:
        variable, mark: processes are ended that have a part beginning with ``mark`` in this environment variable.
        folder: removed after them, None for none.
    """

    def __init__(self, variable: str, mark: str, folder: Path | None) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if sys.platform == "linux":
            arguments = [variable, mark, str(folder or "")]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",  # holds no folder that somebody may want to remove or unmount
                start_new_session=True,
            )

    def __enter__(self) -> OrphanReaper:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _marked(variable: str, mark: str) -> list[int]:
    """Pids of living processes that were started below a worker of the pool."""
    name, start = f"{variable}=".encode(), f"{mark}-".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            entries = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        values = [entry[len(name) :] for entry in entries if entry.startswith(name)]
        if any(part.startswith(start) for value in values for part in value.split(b"/")):
            found.append(int(folder.name))
    return found


def _wait_and_reap(variable: str, mark: str, folder: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # what ends the job politely must not end us before the supervisor
    while os.read(0, 1):
        pass
    began = time.monotonic()
    while time.monotonic() - began < _WITHIN_S and (left := _marked(variable, mark)):
        spare = time.monotonic() - began < _CLEAN_UP_S
        for pid in left:
            try:
                if spare and b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    continue
                os.kill(pid, signal.SIGKILL)
            except OSError:  # it has ended meanwhile
                continue
        time.sleep(0.05)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _wait_and_reap(*sys.argv[1:])
