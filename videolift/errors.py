"""The kinds of failure that videolift tells apart, by type and never by reading text.

What a failure means for a video (quarantine, retry, stop) follows from its class alone; see DESIGN "Errors" in docs/design.md.
This module does not decide what to do about a failure and knows no file, pool or stage.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of ``videolift`` and ``python -m stages``. Snakemake itself returns 1 for any failure."""

    OK = 0
    LOST = 1
    """Videos lost beyond ``max_quarantined``, or ``verify`` found faults."""
    USAGE = 2
    """Configuration or command line."""
    BACKEND = 3
    """A backend cannot start: environment, weights or device."""
    STORAGE = 4
    """Disk full, quota or I/O error; stopped politely."""
    LEASED = 5
    """The batch is being worked on by another run."""
    INTERRUPTED = 130
    TERMINATED = 143


class VideoliftError(Exception):
    """Base of every error that is addressed to the user. ``exit_code`` is what a command ends with."""

    exit_code: ExitCode = ExitCode.USAGE


class ConfigError(VideoliftError):
    """The configuration or the command line is wrong; nothing was done."""


class BadInput(VideoliftError):
    """This video cannot be processed as it is; quarantine it at once.

    Args:
        code: short stable name, e.g. ``audio_only``; scripts may compare it.
        text: what is wrong with the value seen and what is allowed.
        remedy: what the user can do.
    """

    exit_code = ExitCode.LOST

    def __init__(self, code: str, text: str, remedy: str) -> None:
        super().__init__(code, text, remedy)
        self.code, self.text, self.remedy = code, text, remedy

    def __str__(self) -> str:
        return f"{self.text} ({self.code}). {self.remedy}"


class OutOfMemory(VideoliftError):
    """The device or the host ran out of memory; shrink and retry alone.

    Args:
        peak_bytes: the most memory seen in use by the process tree, None where it could not be measured.
        text: what the allocator said.
    """

    exit_code = ExitCode.LOST

    def __init__(self, peak_bytes: int | None = None, text: str = "out of memory") -> None:
        super().__init__(peak_bytes, text)
        self.peak_bytes, self.text = peak_bytes, text

    def __str__(self) -> str:
        return self.text if self.peak_bytes is None else f"{self.text} (peak {self.peak_bytes / 2**30:.2f} GiB)"


class Transient(VideoliftError):
    """Disk full, quota, I/O error: no video's fault. Back off, then stop politely."""

    exit_code = ExitCode.STORAGE


class Crash(VideoliftError):
    """A model's own process died, hung or failed in a way that has no name; retried elsewhere, quarantined after ``attempts``.

    Args:
        text: what happened.
        log: its traceback and the last lines of its output.
    """

    exit_code = ExitCode.LOST

    def __init__(self, text: str, log: str = "") -> None:
        super().__init__(text, log)
        self.text, self.log = text, log

    def __str__(self) -> str:
        return f"{self.text}\n{self.log}".strip()


class BackendUnavailable(VideoliftError):
    """A backend cannot start here: its environment, weights or device is missing. The text ends with the command to type."""

    exit_code = ExitCode.BACKEND


class LeaseHeld(VideoliftError):
    """Another run works on the same batch."""

    exit_code = ExitCode.LEASED


class CorruptFile(VideoliftError):
    """A file of ours fails its checks: truncated, not complete, wrong version, a checksum that does not match."""

    exit_code = ExitCode.LOST


_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_STORAGE_ERRNOS = _ROOM_ERRNOS | {errno.EIO, errno.ESTALE, errno.ENFILE}
"""ENFILE, too many open files in the whole machine, passes like a full disk; EMFILE is this process's own leak and does not."""

# What torch 2, CUDA 12 and cuDNN 9 say when an allocation fails; they reach Python as RuntimeError with a text only.
_OUT_OF_MEMORY_PHRASES = (
    "out of memory",
    "alloc_failed",  # CUBLAS_STATUS_, CUDNN_STATUS_, CUSOLVER_STATUS_, CUFFT_
    "allocation_failed",  # CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ and _HOST_
    "memoryallocation",  # cudaErrorMemoryAllocation
    "defaultcpuallocator",
)
# What the same libraries say when a handle's workspace or every engine's does not fit; they say it for other reasons too.
_OUT_OF_MEMORY_IF_FULL_PHRASES = ("cublas_status_not_initialized", "cudnn_status_not_initialized", "unable to find an engine")


def says_out_of_memory(text: str) -> bool:
    """True if ``text``, of an error of a compute library, says that an allocation failed."""
    text = text.lower()
    return any(phrase in text for phrase in _OUT_OF_MEMORY_PHRASES)


def may_say_out_of_memory(text: str) -> bool:
    """True if ``text`` means that an allocation failed in case the card is nearly full, and something else otherwise."""
    text = text.lower()
    return any(phrase in text for phrase in _OUT_OF_MEMORY_IF_FULL_PHRASES)


def error_number(error: BaseException) -> int | None:
    """The errno that ``error`` carries, None without one.

    HDF5 hides the number in its text ("errno = 28"), and raises RuntimeError when it happens on close, so both are read.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if not isinstance(error, (OSError, RuntimeError, ValueError)):
        return None
    try:
        found = re.search(r"errno = (\d+)", str(error))
    except Exception:  # noqa: BLE001  a user's __str__ may raise anything
        return None
    return None if found is None else int(found.group(1))


def is_storage_error(error: BaseException) -> bool:
    """True if ``error`` says that the disk is full, over quota or failing."""
    return error_number(error) in _STORAGE_ERRNOS


def is_lack_of_room(error: BaseException) -> bool:
    """True if ``error`` says that the disk is full, over quota or read-only: a person must act before the same work can succeed."""
    return error_number(error) in _ROOM_ERRNOS


def is_descriptor_leak(error: BaseException) -> bool:
    """True if ``error`` says that this process has too many open files."""
    return error_number(error) == errno.EMFILE


@contextmanager
def storage_errors_are_transient(what: str) -> Iterator[None]:
    """Turns a storage error raised inside into `Transient`, naming ``what`` was being written."""
    try:
        yield
    # HDF5 raises each of them for a full disk, depending on which call notices.
    except (OSError, RuntimeError, ValueError) as error:
        if is_storage_error(error):
            raise Transient(f"{what}: {error}. Free space or raise the quota, then run the same command again.") from error
        raise
