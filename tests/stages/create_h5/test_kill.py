"""A writer that is killed at any of its steps leaves the old file or the new one under the final name, never anything else."""

from __future__ import annotations

import os
import signal

import pytest

from videolift.dataset.verify import verify_path
from videolift.dataset.writer import DatasetWriter
from videolift.store import sha256_file


def package_until(step: int, run) -> bool:
    """Packages in a child that kills itself before its ``step``-th write, flush or rename; True if it came to its end."""
    pid = os.fork()
    if pid == 0:
        left = step

        def counted(call):
            def wrapped(*args, **kwargs):
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return wrapped

        DatasetWriter.append, DatasetWriter.put = counted(DatasetWriter.append), counted(DatasetWriter.put)
        os.fsync, os.replace = counted(os.fsync), counted(os.replace)
        run()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize(("profile", "every"), [("default", 1), ("fast", 3), ("tiny", 3)])
def test_a_kill_at_any_step_leaves_the_old_file_or_the_new_one(package_clip, profile, every):
    old = package_clip(settings={"seed": 1, "profile": profile})[0]
    new = package_clip("new", settings={"seed": 2, "profile": profile})[0]
    assert verify_path(new.path) == []
    states, step = [], 1
    while not package_until(step, lambda: package_clip(settings={"seed": 2, "profile": profile})):
        states.append(sha256_file(old.path))
        step += every
    assert set(states) <= {old.sha256, new.sha256}, "a file that is neither"
    assert every > 1 or len(set(states)) == 2, "no kill on one side of the rename"
    assert states == sorted(states, key=[old.sha256, new.sha256].index)
    assert len(states) > 15 // every
    assert sha256_file(old.path) == new.sha256
