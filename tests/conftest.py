"""What all tests share: patience on busy machines, and a small disk that fills up."""

import os
import signal
import subprocess

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure, and nobody's change is stopped by an example that others were never shown.
patient = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("patient", patient)
settings.load_profile("patient")

# A shell that puts us into the background has SIGINT ignored, which every child would inherit: then Ctrl-C tests nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)

SMALL_DISK_BYTES = 4 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own, 4 MB large; mounting one takes root."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)
