"""Checkouts of the models' repositories and an interpreter that can run them, both named by the environment; random weights, CPU.

VIDEOLIFT_UPSTREAM names a folder with MoGe, utils3d, TAPIP3D, WiLoR, map-anything, UniCeption, dinov2, sam2 and nvidia_vipe-1.2.0
(or vipe); VIDEOLIFT_UPSTREAM_PYTHON an interpreter with what envs/*.yaml list. Everything upstream runs in that interpreter,
through the workers that production uses.
"""

import os
import subprocess
from pathlib import Path

import pytest

from videolift.isolation import Isolated, child_environment

STAGES = Path(__file__).resolve().parents[2] / "stages"
CPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "YOLO_OFFLINE": "true", "HF_HUB_OFFLINE": "1"}


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.upstream)
            item.add_marker(pytest.mark.timeout(3600))  # they compute; a busy machine may take its time


@pytest.fixture(scope="session")
def upstream():
    """The folder of checkouts."""
    if "VIDEOLIFT_UPSTREAM" not in os.environ:
        pytest.skip("VIDEOLIFT_UPSTREAM names no folder")
    return Path(os.environ["VIDEOLIFT_UPSTREAM"])


@pytest.fixture(scope="session")
def python(upstream):
    """An interpreter with torch."""
    return os.environ["VIDEOLIFT_UPSTREAM_PYTHON"]


@pytest.fixture(scope="session")
def run(python, upstream):
    """Runs a script of this folder in that interpreter: ``run("direct_moge.py", arguments...)``."""

    def call(script, *arguments):
        path = Path(__file__).parent / script
        done = subprocess.run(
            [python, "-I", path, upstream, *map(str, arguments)],
            env=child_environment(CPU),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


@pytest.fixture(scope="session")
def small(run, tmp_path_factory):
    """``small("moge")``: a folder with random weights of a small model, made once by its script of this folder."""
    made = {}

    def make(model, *arguments):
        if model not in made:
            made[model] = tmp_path_factory.mktemp(f"small_{model}")
            run(f"direct_{model}.py", made[model], *arguments)
        return made[model]

    return make


@pytest.fixture(scope="module")
def start(python):
    """Starts one of our workers in that interpreter: ``start("depth/moge_worker.py", meta)``."""
    running = []

    def begin(worker, meta):
        isolated = Isolated(python, STAGES / worker, env=CPU)
        running.append(isolated)
        isolated.load(meta)
        return isolated

    yield begin
    for isolated in running:
        isolated.close()
