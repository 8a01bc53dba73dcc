"""Processes that are killed while they write, for tests of what they leave behind.

A moment is a number of calls that the work has made so far, and not a time: the same on every machine, however busy.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def moments(work: Callable[[], None], count: int) -> Iterator[int]:
    """``count`` moments spread over ``work``, which is done once to see how many there are."""
    calls = 0

    def counted(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    for i in range(count):
        yield 1 + calls * i // count


def kill_at(moment: int, work: Callable[[], None]) -> bool:
    """Starts ``work`` in a child and kills it with SIGKILL at its ``moment``; True if it was done before."""
    pid = os.fork()
    if pid == 0:
        _die_at(moment)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work itself failed"
    return os.WIFEXITED(status)


def _die_at(moment: int) -> None:
    calls = 0

    def die(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(die)


def leftovers(folder: Path) -> list[Path]:
    """Temporaries of killed writers."""
    return list(folder.rglob(".*.tmp*"))
