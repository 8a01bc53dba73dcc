"""The kinds of failure: what the user reads, what a command ends with, which trouble is the disk's."""

import errno
import pickle

import pytest

from videolift import errors
from videolift.errors import BadInput, Crash, ExitCode, OutOfMemory, Transient, is_storage_error, storage_errors_are_transient

EXAMPLES = [
    BadInput("audio_only", "no video stream", "Remove the file."),
    OutOfMemory(3 << 30, "CUDA out of memory"),
    OutOfMemory(),
    Crash("the process died", "last words"),
    Transient("disk full"),
    errors.ConfigError("x"),
    errors.BackendUnavailable("x"),
    errors.LeaseHeld("x"),
    errors.CorruptFile("x"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_cross_processes_whole(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_every_error_has_an_exit_code_that_is_not_success():
    assert all(error.exit_code > ExitCode.OK for error in EXAMPLES)
    assert {type(e).__name__: int(e.exit_code) for e in EXAMPLES} == {
        "BadInput": 1,
        "OutOfMemory": 1,
        "Crash": 1,
        "CorruptFile": 1,
        "ConfigError": 2,
        "BackendUnavailable": 3,
        "Transient": 4,
        "LeaseHeld": 5,
    }


def test_bad_input_says_what_is_wrong_its_code_and_what_to_do():
    assert str(EXAMPLES[0]) == "no video stream (audio_only). Remove the file."


def test_out_of_memory_names_the_peak_where_it_was_measured():
    assert str(OutOfMemory(3 << 30, "CUDA out of memory")) == "CUDA out of memory (peak 3.00 GiB)"
    assert str(OutOfMemory()) == "out of memory"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (OSError(errno.EROFS, "Read-only file system"), True),
        (OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"), True),
        (RuntimeError("Can't decrement id ref count (file write failed: errno = 122, error message)"), True),
        (OSError(errno.ENFILE, "Too many open files in system"), True),
        (OSError(errno.EMFILE, "Too many open files"), False),
        (OSError(errno.ENOENT, "No such file or directory"), False),
        (OSError("truncated file: eof = 96"), False),
        (RuntimeError("errno = 2"), False),
        (ValueError("no space left in this sentence"), False),
        (KeyError("errno = 28"), False),
    ],
    ids=str,
)
def test_the_disks_trouble_is_told_from_a_videos(error, expected):
    assert is_storage_error(error) is expected
    with pytest.raises(Transient if expected else type(error)), storage_errors_are_transient("writing a.h5"):
        raise error


def test_transient_says_what_was_written_and_what_to_do():
    full = OSError(errno.ENOSPC, "No space left on device")
    said = r"writing a\.h5: .*No space left.* Free space or raise the quota"
    with pytest.raises(Transient, match=said) as raised, storage_errors_are_transient("writing a.h5"):
        raise full
    assert raised.value.__cause__ is full


def test_a_transient_inside_a_transient_is_told_once():
    with pytest.raises(Transient, match=r"^inner$"), storage_errors_are_transient("outer"):
        raise Transient("inner")
