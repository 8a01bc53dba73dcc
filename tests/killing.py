"""Processes that are killed while they write, for tests of what they leave behind."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def fork(work: Callable[[], None]) -> int:
    """Starts ``work`` in a child; returns its pid. It exits 0 when done, 1 on an exception."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def kill_after(seconds: float, work: Callable[[], None]) -> bool:
    """Runs ``work`` in a child and kills it with SIGKILL after ``seconds``; True if it was done before."""
    pid = fork(work)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFEXITED(status)


def leftovers(folder: Path) -> list[Path]:
    """Temporaries of killed writers."""
    return list(folder.rglob(".*.tmp*"))
