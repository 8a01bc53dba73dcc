"""The mission's chain in one Snakemake run: recorded ViPE, true TAPIP3D, true WiLoR, create_h5; killed in each stage.

Small networks with random weights on a CPU: detections are noise, and equal bytes are what is asked for.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from stages.sample import render
from tests.resume.harness import ROOT, Project, alive, forget_snakemake, job_of, wait_for_quiet
from tests.slurm import cluster as slurm
from videolift.geometry import invert_pose
from videolift.h264 import H264Writer

BACKENDS = Path(__file__).parent / "on_cpu"
T, H, W = 24, 96, 128
WORKERS = {"depth": "recorded_vipe_worker.py", "tracks": "tapip3d_worker.py", "hands": "wilor_worker.py"}
STAGES = ("ingest", "depth", "tracks", "hands", "create_h5")


@pytest.fixture(scope="module")
def chain(small, upstream, python, tmp_path_factory):
    """``chain("name")``: a project of its own with one clip and the same settings."""
    base = tmp_path_factory.mktemp("chain")
    truth = render("handheld_rgbd", frames=T, width=W, height=H)
    poses = invert_pose(truth.T_camera_world)
    np.savez(base / "recorded.npz", rgb=truth.rgb, depth=truth.depth_m.astype(np.float32), T_world_camera=poses, K=truth.K)
    with H264Writer(base / "clip.mp4", (W, H), 10.0, crf=8) as video:
        for frame in truth.rgb:
            video.write(frame)
    tapip3d, wilor = small("tapip3d"), small("wilor")
    own = {"python": python, "checkout": str(upstream / "TAPIP3D"), "weights": str(tapip3d / "tapip3d.pth"), "iterations": 1}
    files = {"weights": wilor / "wilor.ckpt", "detector": wilor / "detector.pt", "mano": wilor / "MANO_RIGHT.pkl"}
    hands = {"python": python, "checkout": str(wilor / "WiLoR"), "min_confidence": 0.001} | {k: str(v) for k, v in files.items()}
    config = {
        "videos": "videos",
        "output": "output",
        "lease_wait_s": 60,
        "min_tier": "B",
        "preview": "none",
        "ingest": {"width": W, "height": H},
        "depth": {"backend": str(BACKENDS / "vipe.py"), "vipe": {"python": sys.executable, "torch_home": str(base)}},
        "tracks": {
            "backend": str(BACKENDS / "tapip3d.py"),
            "points": 40,
            "stride": 3,
            "segment_s": 0.5,
            "tapip3d": own | {"check_every": 4},
        },
        "hands": {"backend": str(BACKENDS / "wilor.py"), "wilor": hands},
        "create_h5": {"size": 48, "min_points": 0},  # what a random network calls visible is chance
    }

    def make(name):
        folder = base / name
        (folder / "videos").mkdir(parents=True)
        (folder / "videos" / "clip.mp4").write_bytes((base / "clip.mp4").read_bytes())
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return Project(folder)

    return make


def model_of(head, worker):
    """The process of a model, of those that a run has started; None while there is none."""
    for process in psutil.Process(head.pid).children(recursive=True):
        try:
            if any(part.endswith(worker) for part in process.cmdline()):
                return process
        except psutil.NoSuchProcess:
            continue
    return None


def hit(head, stage):
    """What of a run is at work on ``stage`` now: its model where it has one, else its job; None if it is elsewhere."""
    if stage in WORKERS:
        return model_of(head, WORKERS[stage])
    job = job_of(head)
    return job if job is not None and stage in job.cmdline() else None


def wait_for(head, what, find=hit):
    """The process to hit; None where the run ended before."""
    while head.poll() is None:
        found = find(head, what)
        if found is not None:
            return found
        time.sleep(0.02)
    return None


def events(project, stage):
    """What the pools of a stage have written so far."""
    return [path.read_text() for path in (project.output / "logs" / stage).glob("*.events.jsonl")]


def killed_group(project, stage):
    """Starts the run and kills all of it while ``stage`` is at work; True if it was."""
    head = project.start()
    found = wait_for(head, stage)
    time.sleep(0.5 if stage in WORKERS else 0)
    was_running = head.poll() is None
    if was_running:
        os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    wait_for_quiet(head.pid)
    forget_snakemake(project)
    return found is not None and was_running


@pytest.fixture(scope="module")
def wanted(chain):
    """Hashes of what an undisturbed run leaves."""
    project = chain("undisturbed")
    assert project.run(timeout=1800) == 0, project.terminal()
    assert "1 in = 1 done + 0 quarantined" in project.terminal()
    return project.results()


def test_the_chain_killed_in_each_stage_ends_with_the_same_bytes(chain, wanted):
    killed = chain("killed")
    hits = [stage for stage in STAGES if killed_group(killed, stage)]
    print("killed with its group in", *hits)
    assert set(WORKERS) <= set(hits)
    assert killed.run(timeout=1800) == 0, killed.terminal()
    assert killed.results() == wanted


@pytest.mark.parametrize("stage", ["tracks", "hands"])
def test_a_run_whose_model_is_killed_tries_again_and_ends_with_the_same_bytes(chain, wanted, stage):
    killed = chain(f"killed-{stage}")
    head = killed.start(stage)
    model = wait_for(head, stage)
    assert model is not None
    time.sleep(1)
    for process in (model.parent(), model):  # the pool's worker, and the model in case it is slow to follow
        if process is not None and process.is_running():
            process.kill()
    assert head.wait(1800) == 0, killed.terminal()
    assert not alive(head.pid)
    found = killed.results()
    assert found
    assert found.items() <= wanted.items()


@pytest.mark.slow
def test_the_chain_under_slurm_with_a_cancelled_job_ends_with_the_same_bytes(chain, wanted):
    if (reason := slurm.why_not()) is not None:
        pytest.skip(reason)
    slurm.install()
    project = chain("slurm")
    profile = ("--workflow-profile", str(ROOT / "profiles" / "slurm"), "--default-resources", "slurm_partition=lab")
    patience = ("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5")
    # As many cores as the undisturbed run has: torch's sums on a CPU are rounded by how many threads share them.
    project.where = (*profile, *patience, "--set-threads", *(f"{stage}_batch=2" for stage in STAGES))
    with slurm.Cluster() as cluster:
        head = project.start()
        job = cluster.wait_for_job("tracks", timeout=900)
        assert wait_for(head, "progress", lambda _, kind: next((t for t in events(project, "tracks") if f'"{kind}"' in t), None))
        cluster.command("scancel", job)
        head.wait(1800)
        assert project.run(timeout=1800) == 0, project.terminal()
    assert project.results() == wanted
