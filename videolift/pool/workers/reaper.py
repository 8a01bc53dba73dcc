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


def _wait_and_reap(variable: str, mark: str, folder: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # what ends the job politely must not end us before the supervisor
    while os.read(0, 1):
        pass
    name, start = f"{variable}=".encode(), f"{mark}-".encode()
    began, found = time.monotonic(), True
    # Again and again: what is being started while we look is found the next time.
    while found and time.monotonic() - began < _WITHIN_S:
        found, spare = False, time.monotonic() - began < _CLEAN_UP_S
        for process in Path("/proc").glob("[0-9]*"):
            try:
                values = [x[len(name) :] for x in (process / "environ").read_bytes().split(b"\0") if x.startswith(name)]
                if not any(part.startswith(start) for value in values for part in value.split(b"/")):
                    continue
                found = True
                if not (spare and b"resource_tracker" in (process / "cmdline").read_bytes()):
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:  # it has ended meanwhile, or is somebody else's
                continue
        if found:
            time.sleep(0.05)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _wait_and_reap(*sys.argv[1:])
