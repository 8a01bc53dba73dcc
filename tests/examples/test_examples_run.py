"""The numbered examples run as they stand; those that need torch where torch is."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.videolift.reader.conftest import artifacts, dataset_folder, package_truth, two_groups  # noqa: F401

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]_*.py"))
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def run(number, *arguments):
    script = next(path for path in EXAMPLES if path.name.startswith(f"{number}_"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_there_are_five_of_under_80_lines_each():
    assert len(EXAMPLES) == 5
    assert all(len(path.read_text().splitlines()) < 80 for path in EXAMPLES)


def test_look_at_a_sample(dataset_folder):  # noqa: F811
    said = run(1, dataset_folder)
    assert "24 windows; the first is frame 0 of v0" in said
    assert "right hand: known in 5 of 5 steps" in said


@needs_torch
def test_train_a_track_predictor(dataset_folder):  # noqa: F811
    losses = [float(line.split()[-1]) for line in run(2, dataset_folder, 4).splitlines()]
    assert len(losses) == 5
    assert losses[-1] < losses[0]


def test_mix_two_datasets(dataset_folder, two_groups):  # noqa: F811
    assert "resumed after 40 samples" in run(3, dataset_folder, two_groups)


def test_lerobot_policy(dataset_folder, tmp_path):  # noqa: F811
    pytest.importorskip("pyarrow")
    said = run(4, dataset_folder, tmp_path / "out", 5)
    assert "3 episodes, 33 frames, 10 per second" in said
    assert json.loads((tmp_path / "out/meta/info.json").read_text())["total_frames"] == 33


@needs_torch
def test_distributed(dataset_folder):  # noqa: F811
    assert "none twice; resumed as if never stopped" in run(5, dataset_folder)
