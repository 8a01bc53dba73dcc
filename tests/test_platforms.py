"""requirements.lock resolves where nobody of us has run it: other machines, other versions of Python. Asks the package registry."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).parents[1]
COMPILED = "av h5py hdf5plugin numpy opencv-python-headless pandas pillow psutil pyarrow pycolmap pydantic-core rerun-sdk scipy uv"
"""Packages that nobody should have to compile: without a wheel of theirs the platform counts as unsupported."""
PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin")
OLDEST_MACOS = "14.0"
"""What the pins need on Apple silicon; PyAV 18 and 19 have no wheel for an older one. Said in README.md and docs/faq.md."""
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def resolve(platform: str, python: str, *, macos: str = OLDEST_MACOS) -> subprocess.CompletedProcess[str]:
    command = [uv.find_uv_bin(), "pip", "compile", "-q", "--python-platform", platform, "--python-version", python]
    for extra in ("run", "view", "slurm", "export"):
        command += ["--extra", extra]
    for package in COMPILED.split():
        command += ["--only-binary", package]
    command += ["-c", "requirements.lock", "--no-emit-index-url", "--no-annotate", "--no-header", "pyproject.toml"]
    # metadata of a package without a wheel is read with this Python, which serves; another one is not downloaded
    environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": macos, "UV_PYTHON_DOWNLOADS": "never"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_pins_resolve_on_every_platform_and_python_we_name():
    pairs = list(product(PLATFORMS, PYTHONS))
    with ThreadPoolExecutor(4) as threads:
        answers = dict(zip(pairs, threads.map(lambda pair: resolve(*pair), pairs), strict=True))
    assert {pair: answer.stderr for pair, answer in answers.items() if answer.returncode} == {}
    without = [pair for pair, answer in answers.items() if "pycolmap==" not in answer.stdout]
    assert without == [("aarch64-unknown-linux-gnu", python) for python in PYTHONS]


@pytest.mark.slow
def test_an_older_macos_is_refused_for_the_reason_we_give():
    refused = resolve("aarch64-apple-darwin", "3.11", macos="13.0")
    assert refused.returncode != 0
    assert "av==" in refused.stderr
