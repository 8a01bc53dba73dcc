"""Ctrl-C while a program of ours starts: it ends, and prints no lines of code that it was just importing.

Imports nothing but the standard library's smallest part, since it is imported before everything else.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_start() -> Iterator[None]:
    """Inside the block Ctrl-C ends the process as it ends one that is not Python; where it is ignored it stays so."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def hold_interrupts() -> None:
    """Ctrl-C waits from now on, also in the program that this process becomes, until that calls `take_interrupts`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def take_interrupts() -> None:
    """Takes Ctrl-C again; one that has come in the meantime comes now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
