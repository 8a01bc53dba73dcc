"""LeRobot's format: what was written, read with pyarrow; and, where its package is at hand, loaded by lerobot itself.

The last test needs VIDEOLIFT_PEERS to name a Python that has lerobot: ``pytest -m peers``.
"""

from __future__ import annotations

import io
import json
import os
import subprocess

import cv2
import numpy as np
import pytest

from tests.videolift.reader.conftest import artifacts, package_truth  # noqa: F401
from videolift.dataset import publish_dataset
from videolift.errors import ConfigError
from videolift.export.lerobot import export_lerobot
from videolift.reader import PackagedFile

pq = pytest.importorskip("pyarrow.parquet")
POINTS = 32


@pytest.fixture(scope="module")
def folder(artifacts, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("lerobot") / "h5_dataset"
    rows = [
        package_truth(artifacts, folder / f"v{i}.hdf5", about={"text": text}) for i, text in enumerate(["lift", "drop", "lift"])
    ]
    publish_dataset(folder, rows, left_out={})
    return folder


@pytest.fixture(scope="module")
def exported(folder):
    export_lerobot(folder, folder.parent / "out", points=POINTS)
    return folder.parent / "out"


@pytest.fixture(scope="module")
def rows(exported):
    return pq.read_table(exported / "data/chunk-000/file-000.parquet")


def test_info_states_frames_tasks_rate_and_features(exported):
    info = json.loads((exported / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"]) == ("v3.0", 10)
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 36, 2)
    assert info["features"]["observation.depth"] == {"dtype": "float32", "shape": [64, 64], "names": ["height", "width"]}
    assert info["features"]["action.tracks.displacement"]["shape"] == [5, POINTS, 3]


def test_images_and_depth_are_exactly_those_of_the_dataset(rows, folder):
    with PackagedFile(folder / "v0.hdf5") as file:
        for t in (0, 11):
            png = np.frombuffer(rows["observation.images.rgb"][t].as_py()["bytes"], np.uint8)
            rgb = cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1].transpose(2, 0, 1)
            np.testing.assert_array_equal(rgb, file.rgb(slice(t, t + 1))[0])
            np.testing.assert_array_equal(
                np.array(rows["observation.depth"][t].as_py(), np.float32), file.depth(slice(t, t + 1))[0]
            )


def test_tracks_stand_at_their_windows_first_frame(rows, folder):
    with PackagedFile(folder / "v0.hdf5") as file:
        query, displacement, _ = file.tracks(3, slice(0, POINTS))
    np.testing.assert_array_equal(np.array(rows["observation.tracks.query"][3].as_py(), np.float32), query)
    np.testing.assert_array_equal(np.array(rows["action.tracks.displacement"][3].as_py(), np.float32), displacement)
    assert rows["observation.tracks.count"].to_pylist()[:12] == [POINTS] * 8 + [0] * 4
    assert np.isnan(np.array(rows["observation.tracks.query"][9].as_py(), float)).all()


def test_episodes_and_tasks_index_the_rows(exported, rows):
    episodes = pq.read_table(exported / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"], e["tasks"]) for e in episodes] == [
        (0, 12, ["lift"]),
        (12, 24, ["drop"]),
        (24, 36, ["lift"]),
    ]
    assert rows["index"].to_pylist() == list(range(36))
    assert rows["task_index"].to_pylist() == [0] * 12 + [1] * 12 + [0] * 12
    np.testing.assert_allclose(rows["timestamp"].to_pylist()[:12], np.arange(12) / 10, atol=1e-6)


def test_statistics_leave_invalid_values_out(exported, rows):
    stats = json.loads((exported / "meta/stats.json").read_text())
    moved = np.array(rows["action.tracks.pose9d"].to_pylist(), float)
    np.testing.assert_allclose(stats["action.tracks.pose9d"]["mean"], np.nanmean(moved, 0), atol=1e-9)
    np.testing.assert_allclose(stats["action.tracks.pose9d"]["std"], np.nanstd(moved, 0), atol=1e-7)
    assert np.array(stats["observation.images.rgb"]["mean"]).shape == (3, 1, 1)


def test_a_folder_that_is_taken_is_refused(folder, exported):
    with pytest.raises(ConfigError, match="holds a dataset already"):
        export_lerobot(folder, exported)


LOAD = """
import sys, numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
dataset = LeRobotDataset("local/videolift", root=sys.argv[1])
out = {"length": len(dataset), "fps": dataset.fps, "tasks": [dataset[i]["task"] for i in (0, 12, 35)]}
for i in (0, 3, 20):
    for key, value in dataset[i].items():
        if hasattr(value, "numpy"):
            out[f"{i}/{key}"] = value.numpy()
windows = LeRobotDataset("local/videolift", root=sys.argv[1], delta_timestamps={"observation.depth": [-0.1, 0.0]})
out["stacked"] = windows[5]["observation.depth"].numpy()
np.savez(sys.argv[2], **out)
"""


@pytest.mark.peers
def test_lerobot_loads_the_export_and_returns_the_same(exported, folder, tmp_path):
    python = os.environ.get("VIDEOLIFT_PEERS")
    if not python:
        pytest.skip("VIDEOLIFT_PEERS names no Python with lerobot")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": ""}
    done = subprocess.run(
        [python, "-c", LOAD, exported, tmp_path / "seen.npz"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(io.BytesIO((tmp_path / "seen.npz").read_bytes())) as seen, PackagedFile(folder / "v0.hdf5") as file:
        assert (int(seen["length"]), int(seen["fps"]), seen["tasks"].tolist()) == (36, 10, ["lift", "drop", "lift"])
        np.testing.assert_array_equal(np.rint(seen["3/observation.images.rgb"] * 255).astype(np.uint8), file.rgb(slice(3, 4))[0])
        np.testing.assert_array_equal(seen["3/observation.depth"], file.depth(slice(3, 4))[0])
        np.testing.assert_array_equal(seen["3/observation.tracks.query"], file.tracks(3, slice(0, POINTS))[0])
        np.testing.assert_array_equal(seen["3/observation.hands.T_camera_wrist"], file.array("hands/T_camera_wrist", 3))
        np.testing.assert_array_equal(seen["20/observation.hands.valid"], file.array("hands/valid", 8))
        np.testing.assert_array_equal(seen["stacked"], file.depth(slice(4, 6)))
