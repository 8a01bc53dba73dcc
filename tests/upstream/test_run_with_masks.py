"""A whole Snakemake run with the stage masks on: true SAM 2 with random weights, points of its objects tracked and packaged."""

import csv
import os
import signal

import numpy as np
import pytest
import yaml

from stages.sample import render
from tests.resume.harness import Project, forget_snakemake, wait_for_quiet
from tests.upstream.small_sam2 import CONFIG, OVERRIDES
from tests.upstream.test_chain import BACKENDS, model_of, wait_for
from videolift.dataset.file import PackagedFile
from videolift.h264 import H264Writer

T, H, W = 12, 96, 128


@pytest.fixture(scope="module")
def project(small, upstream, python, tmp_path_factory):
    """``project("name")``: a folder of its own with one clip, its true depth and two objects pointed at."""
    base = tmp_path_factory.mktemp("masks")
    truth = render("handheld_rgbd", frames=T, width=W, height=H)
    K = np.repeat(truth.K[None], T, axis=0)
    np.savez(base / "clip.npz", depths=truth.depth_m.astype(np.float16), intrinsics=K, extrinsics=truth.T_camera_world)
    with H264Writer(base / "clip.mp4", (W, H), 10.0, crf=8) as video:
        for frame in truth.rgb:
            video.write(frame)
    with (base / "videos.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["video", "path", "depth", "objects"], ["clip", base / "clip.mp4", base / "clip.npz", "64 48; 20 20 70 70"]]
        )
    weights = str(small("sam2", CONFIG, *OVERRIDES) / "sam2.pt")
    own = {"python": python, "checkout": str(upstream / "sam2"), "weights": weights, "model": "tiny"}
    config = {
        "videos": str(base / "videos.csv"),
        "output": "output",
        "lease_wait_s": 60,
        "required": ["masks", "tracks"],
        "ingest": {"width": W, "height": H},
        "masks": {"backend": str(BACKENDS / "sam2.py"), "segment_s": 0.5, "sam2": own},
        "tracks": {"query": "mask", "points": 40, "window_length": 8, "stride": 4},
        "hands": {"backend": "none"},
        "create_h5": {"size": 48, "min_points": 0},  # a random mask may hold one point
    }

    def make(name):
        (base / name).mkdir()
        (base / name / "config.yaml").write_text(yaml.safe_dump(config))
        return Project(base / name)

    return make


def test_a_run_with_masks_packages_its_objects_and_a_killed_one_ends_with_the_same_bytes(project):
    whole, killed = project("whole"), project("killed")
    assert whole.run(timeout=1800) == 0, whole.terminal()
    with PackagedFile(whole.layout.artifact("create_h5", "clip")) as file:
        instance, labels = file.array("masks/instance"), file.array("tracks/label")
        assert instance.shape == (T, 48, 48)
        assert set(np.unique(instance)) <= {0, 1, 2}
        assert 0.01 < (instance > 0).mean() < 0.99
        assert set(np.unique(labels)) <= {1, 2}, "query: mask starts points on objects alone"
        assert len(labels) > 0
    head = killed.start()
    assert wait_for(head, "sam2_worker.py", model_of) is not None
    os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    wait_for_quiet(head.pid)
    forget_snakemake(killed)
    assert killed.run(timeout=1800) == 0, killed.terminal()
    assert killed.results() == whole.results()
