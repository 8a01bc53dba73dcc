"""ViPE cannot run without CUDA; its classes, signatures and configuration are what our worker calls."""

from pathlib import Path

from videolift import isolation_child as wire

STAGES = Path(__file__).resolve().parents[2] / "stages"


def test_upstreams_names_are_those_that_the_worker_relies_on(run):
    assert "ok" in run("direct_vipe.py", STAGES / "depth" / "vipe_worker.py", wire.__file__)
