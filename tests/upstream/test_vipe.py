"""ViPE cannot run without CUDA; its classes, signatures, configuration and allocations are what our worker and figures say."""

import re
from pathlib import Path
from typing import get_args

import pytest

from benchmarks.gpu.vipe_memory import INFILL_CHUNK, SLAM_SIZE, buffer_bytes
from stages.depth.networks.vipe_settings import VipeSettings
from videolift.isolation import isolation_child as wire

STAGES = Path(__file__).resolve().parents[2] / "stages"


@pytest.fixture(scope="module")
def seen(run):
    pipelines = get_args(VipeSettings.model_fields["pipeline"].annotation)
    return run("direct_vipe.py", STAGES / "depth" / "vipe_worker.py", wire.__file__, ",".join(pipelines))


def test_upstreams_names_are_those_that_the_worker_relies_on_and_every_pipeline_offered_builds(seen):
    assert "ok" in seen


def test_upstream_allocates_what_the_formula_says(seen):
    allocated = dict(re.findall(r"buffer of (\d+) frames: (\d+) bytes", seen))
    assert len(allocated) == 2
    for frames, size in allocated.items():
        assert int(size) == buffer_bytes(int(frames) + INFILL_CHUNK + 1, *SLAM_SIZE)
