"""LeRobot's format: what was written, read with pyarrow; and, where its package is at hand, loaded by lerobot itself.

The last tests need VIDEOLIFT_PEERS to name a Python that has lerobot: ``pytest -m peers``. They hold with 0.4.4 and with 0.6.1.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
import pytest

from stages.sample import render
from stages.sample.artifacts import write_truth_artifacts
from tests.videolift.reader.conftest import artifacts, package_truth  # noqa: F401
from videolift.dataset import publish_dataset
from videolift.errors import ConfigError
from videolift.export import episode_videos
from videolift.export.language_rows import subtask_rows
from videolift.export.lerobot import export_lerobot
from videolift.export.policy_rows import PolicyExport, plan_export
from videolift.reader import PackagedFile
from videolift.reader.policies.episodes import Episode, EpisodeRow
from videolift.reader.policies.state import HandTrack, StateSpec, wrist_poses

pq = pytest.importorskip("pyarrow.parquet")
POINTS = 32


@pytest.fixture(scope="module")
def folder(artifacts, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("lerobot") / "h5_dataset"
    rows = [
        replace(
            package_truth(artifacts, folder / f"v{i}.hdf5", about={"text": text}), metadata={"split": "val" if i == 2 else "train"}
        )
        for i, text in enumerate(["lift", "drop", "lift"])
    ]
    publish_dataset(folder, rows, left_out={})
    return folder


@pytest.fixture(scope="module")
def exported(folder):
    export_lerobot(folder, folder.parent / "out", extras=True, points=POINTS)
    return folder.parent / "out"


@pytest.fixture(scope="module")
def rows(exported):
    return pq.read_table(exported / "data/chunk-000/file-000.parquet")


def test_info_states_frames_tasks_rate_features_and_splits(exported):
    info = json.loads((exported / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"]) == ("v3.0", 10)
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 33, 2)
    assert info["splits"] == {"train": "0:2", "val": "2:3"}
    state, action = info["features"]["observation.state"], info["features"]["action"]
    assert (state["shape"], action["shape"]) == ([24], [22])
    assert state["names"] == [*action["names"], "left.known", "right.known"]
    assert action["names"][11:15] == ["right.wrist.x", "right.wrist.y", "right.wrist.z", "right.wrist.rot6d_0"]


def test_no_extra_is_taken_for_an_observation_or_an_action(exported):
    features = json.loads((exported / "meta/info.json").read_text())["features"]
    taken = {name for name in features if name.startswith(("observation", "action"))}
    assert taken == {"observation.images.rgb", "observation.state", "action"}
    assert features["tracks.displacement"]["shape"] == [5, POINTS, 3]


def test_images_and_depth_are_exactly_those_of_the_dataset(rows, folder):
    with PackagedFile(folder / "v0.hdf5") as file:
        for t in (0, 10):
            png = np.frombuffer(rows["observation.images.rgb"][t].as_py()["bytes"], np.uint8)
            rgb = cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1].transpose(2, 0, 1)
            np.testing.assert_array_equal(rgb, file.rgb(slice(t, t + 1))[0])
            np.testing.assert_array_equal(np.array(rows["depth"][t].as_py(), np.float32), file.depth(slice(t, t + 1))[0])


def test_states_and_actions_are_the_poses_of_the_hands(rows, folder):
    states, actions = (np.array(rows[name].to_pylist()[:11]) for name in ("observation.state", "action"))
    with PackagedFile(folder / "v0.hdf5") as file:
        track = HandTrack.of(file)
        T_start_world = file.array("camera/T_camera_world", 0)
    truth = T_start_world @ track.T_world_wrist[:, 1]
    right = StateSpec(frame="start", hands=("right",))
    np.testing.assert_allclose(wrist_poses(states[:, 11:22], right)[:, 0], truth[:11], atol=1e-5)
    np.testing.assert_allclose(wrist_poses(actions[:, 11:], right)[:, 0], truth[1:12], atol=1e-5)
    assert (states[:, 22:] == [0, 1]).all()
    assert (states[:, :11] == 0).all()


def test_an_episode_ends_where_a_hand_is_lost(folder, tmp_path):
    content = tmp_path / "in"
    shutil.copytree(folder, content)
    with h5py.File(content / "v0.hdf5", "r+") as file:
        valid = file["hands/valid"][...]
        valid[4, 1] = False
        file["hands/valid"][...] = valid
    plan = plan_export(content, PolicyExport(min_frames=3))
    assert [(e.video, e.start, e.stop) for e in plan.episodes] == [("v0", 0, 3), ("v0", 5, 11), ("v1", 0, 11), ("v2", 0, 11)]
    left = plan_export(content, PolicyExport())
    assert [e.video for e in left.episodes] == ["v1", "v2"]
    assert left.left_out["v0"] == "no 8 frames in a row in which the hands' state is known"


def test_tracks_stand_at_their_windows_first_frame(rows, folder):
    with PackagedFile(folder / "v0.hdf5") as file:
        query, displacement, _ = file.tracks(3, slice(0, POINTS))
    np.testing.assert_array_equal(np.array(rows["tracks.query"][3].as_py(), np.float32), query)
    np.testing.assert_array_equal(np.array(rows["tracks.displacement"][3].as_py(), np.float32), displacement)
    assert rows["tracks.count"].to_pylist()[:11] == [POINTS] * 8 + [0] * 3
    assert np.isnan(np.array(rows["tracks.query"][9].as_py(), float)).all()


def test_episodes_and_tasks_index_the_rows(exported, rows):
    episodes = pq.read_table(exported / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"], e["tasks"]) for e in episodes] == [
        (0, 11, ["lift"]),
        (11, 22, ["drop"]),
        (22, 33, ["lift"]),
    ]
    assert rows["index"].to_pylist() == list(range(33))
    assert rows["task_index"].to_pylist() == [0] * 11 + [1] * 11 + [0] * 11
    np.testing.assert_allclose(rows["timestamp"].to_pylist()[:11], np.arange(11) / 10, atol=1e-6)


def test_statistics_are_exact_over_all_rows_and_per_episode(exported, rows):
    stats = json.loads((exported / "meta/stats.json").read_text())
    episodes = pq.read_table(exported / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    action = np.array(rows["action"].to_pylist())
    quantiles = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
    for name, values in [("stats", action), ("episode", action[11:22])]:
        table = stats["action"] if name == "stats" else {k: episodes[1][f"stats/action/{k}"] for k in stats["action"]}
        np.testing.assert_allclose(table["mean"], values.mean(0), atol=1e-6)
        np.testing.assert_allclose(table["std"], values.std(0), atol=1e-6)
        for key, q in quantiles.items():
            np.testing.assert_allclose(table[key], np.quantile(values, q, axis=0), atol=1e-6)
        assert table["count"] == [len(values)]


def test_image_statistics_are_those_of_the_pixels(exported, folder):
    stats = json.loads((exported / "meta/stats.json").read_text())["observation.images.rgb"]
    pixels = []
    for i in range(3):
        with PackagedFile(folder / f"v{i}.hdf5") as file:
            pixels.append(file.rgb(slice(0, 11)).transpose(1, 0, 2, 3).reshape(3, -1) / 255)
    pixels = np.concatenate(pixels, 1)
    np.testing.assert_allclose(np.ravel(stats["mean"]), pixels.mean(1), atol=1e-9)
    np.testing.assert_allclose(np.ravel(stats["std"]), pixels.std(1), atol=1e-9)
    np.testing.assert_allclose(np.ravel(stats["q90"]), np.quantile(pixels, 0.9, axis=1), atol=1 / 255)
    assert np.shape(stats["q01"]) == (3, 1, 1)


def test_a_folder_that_is_taken_is_refused(folder, exported):
    with pytest.raises(ConfigError, match="holds a dataset already"):
        export_lerobot(folder, exported)


RGB = "observation.images.rgb"


@pytest.fixture(scope="module")
def as_video(folder):
    """In files of at most two episodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(episode_videos, "MAX_FILE_SECONDS", 2.5)
        export_lerobot(folder, folder.parent / "video", images="video")
    return folder.parent / "video"


def test_images_as_video_lie_where_the_episodes_say(as_video, folder):
    info = json.loads((as_video / "meta/info.json").read_text())
    assert info["features"][RGB]["dtype"] == "video"
    assert RGB not in pq.read_table(as_video / "data/chunk-000/file-000.parquet").column_names
    episodes = pq.read_table(as_video / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    at = [[e[f"videos/{RGB}/{key}"] for key in ("file_index", "from_timestamp", "to_timestamp")] for e in episodes]
    np.testing.assert_allclose(at, [[0, 0, 1.1], [0, 1.1, 2.2], [1, 0, 1.1]], atol=1e-9)
    for number, episode in enumerate(episodes):
        indices = {key: episode[f"videos/{RGB}/{key}"] for key in ("chunk_index", "file_index")}
        with av.open(str(as_video / info["video_path"].format(video_key=RGB, **indices))) as video:
            frames = {round(frame.time, 6): frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)}
        first = episode[f"videos/{RGB}/from_timestamp"]
        shown = [frames[round(first + t / 10, 6)] for t in range(11)]
        with PackagedFile(folder / f"v{number}.hdf5") as file:
            truth = file.rgb(slice(0, 11)).transpose(0, 2, 3, 1)
        assert np.abs(np.array(shown, float) - truth).mean() < 6


def test_every_second_frame_of_a_video_can_be_read_by_itself(as_video):
    with av.open(str(next(as_video.rglob("*.mp4")))) as video:
        keys = [frame.key_frame for frame in video.decode(video=0)]
    assert all(a or b for a, b in zip(keys[:-1], keys[1:], strict=True))


def test_subtasks_hold_from_their_time_on_until_the_next(folder, tmp_path):
    table = [EpisodeRow("v0", 0.5, 1.0, "lift"), EpisodeRow("v0", 0.0, 0.4, "reach"), EpisodeRow("v2", 0.3, 0.8, "put")]
    export_lerobot(folder, tmp_path / "out", subtasks=table)
    rows = pq.read_table(tmp_path / "out/data/chunk-000/file-000.parquet").to_pylist()
    said = [[(row["timestamp"], row["style"], row["content"]) for row in frame["language_persistent"]] for frame in rows]
    assert said[0] == said[10] == [(0.0, "subtask", "reach"), (0.5, "subtask", "lift")]
    assert said[11] == []
    assert said[22] == [(pytest.approx(0.3), "subtask", "put")]
    assert all(frame["language_events"] == [] for frame in rows)


def test_where_two_subtasks_overlap_at_an_episodes_start_the_later_is_said():
    found = subtask_rows([Episode(2, 9, "lift"), Episode(0, 20, "reach"), Episode(12, 20, "drop")], 5, 12, 10.0)
    assert [(row["timestamp"], row["content"]) for row in found] == [(0.0, "lift")]


def test_without_subtasks_no_language_column_is_written(exported, rows):
    features = json.loads((exported / "meta/info.json").read_text())["features"]
    assert not {name for name in (*features, *rows.column_names) if name.startswith("language")}


LOAD = """
import sys, numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
dataset = LeRobotDataset("local/videolift", root=sys.argv[1])
out = {"length": len(dataset), "fps": dataset.fps, "tasks": [dataset[i]["task"] for i in (0, 11, 32)]}
for i in (0, 3, 20):
    for key, value in dataset[i].items():
        if hasattr(value, "numpy"):
            out[f"{i}/{key}"] = value.numpy()
chunks = LeRobotDataset("local/videolift", root=sys.argv[1], delta_timestamps={"action": [k / 10 for k in range(4)]})
out["chunk"], out["pad"] = chunks[9]["action"].numpy(), chunks[9]["action_is_pad"].numpy()
np.savez(sys.argv[2], **out)
"""


def run_peer(code, *arguments):
    python = os.environ.get("VIDEOLIFT_PEERS")
    if not python:
        pytest.skip("VIDEOLIFT_PEERS names no Python with lerobot")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(Path(arguments[0]).parent / "hf"), "PYTHONPATH": ""}
    done = subprocess.run([python, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.peers
def test_lerobot_loads_the_export_and_returns_the_same(exported, folder, rows, tmp_path):
    run_peer(LOAD, exported, tmp_path / "seen.npz")
    with np.load(io.BytesIO((tmp_path / "seen.npz").read_bytes())) as seen, PackagedFile(folder / "v0.hdf5") as file:
        assert (int(seen["length"]), int(seen["fps"]), seen["tasks"].tolist()) == (33, 10, ["lift", "drop", "lift"])
        np.testing.assert_array_equal(np.rint(seen["3/observation.images.rgb"] * 255).astype(np.uint8), file.rgb(slice(3, 4))[0])
        np.testing.assert_array_equal(seen["3/depth"], file.depth(slice(3, 4))[0])
        np.testing.assert_array_equal(seen["3/tracks.query"], file.tracks(3, slice(0, POINTS))[0])
        np.testing.assert_array_equal(seen["20/observation.state"], np.array(rows["observation.state"][20].as_py(), np.float32))
        assert seen["pad"].tolist() == [False, False, True, True]


LOAD_VIDEO = """
import sys, numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
dataset = LeRobotDataset("local/videolift", root=sys.argv[1])
images = [dataset[i]["observation.images.rgb"].numpy() for i in (0, 10, 15, 21, 22, 32)]
several = LeRobotDataset("local/videolift", root=sys.argv[1], delta_timestamps={"observation.images.rgb": [-0.2, 0.0]})
np.savez(sys.argv[2], images=images, pair=several[15]["observation.images.rgb"].numpy())
"""


@pytest.mark.peers
def test_lerobot_decodes_the_videos_frame_by_frame(as_video, folder, tmp_path):
    run_peer(LOAD_VIDEO, as_video, tmp_path / "seen.npz")
    with np.load(tmp_path / "seen.npz") as seen:
        images, pair = seen["images"] * 255, seen["pair"] * 255
    for image, (number, t) in zip(
        [*images, *pair], [(0, 0), (0, 10), (1, 4), (1, 10), (2, 0), (2, 10), (1, 2), (1, 4)], strict=True
    ):
        with PackagedFile(folder / f"v{number}.hdf5") as file:
            errors = [np.abs(image - file.rgb(slice(k, k + 1))[0]).mean() for k in range(11)]
        assert np.argmin(errors) == t
        assert errors[t] < 6


LOAD_LANGUAGE = """
import json, sys
from lerobot.datasets.lerobot_dataset import LeRobotDataset
try:
    from lerobot.datasets.language_render import active_at
except ImportError:
    active_at = None
try:
    dataset = LeRobotDataset("local/videolift", root=sys.argv[1])
except Exception as error:
    print(json.dumps({"refused": active_at is None, "error": str(error)}))
    sys.exit()
out = []
for i in (0, 4, 5, 10, 11):
    row = dataset[i]
    found = active_at(float(row["timestamp"]), persistent=row["language_persistent"], style="subtask")
    out.append(found and found["content"])
print(json.dumps({"subtasks": out, "task": row["task"]}))
"""


@pytest.mark.peers
def test_lerobot_finds_the_subtask_of_a_moment(folder, tmp_path):
    """Its releases from 0.6 on; those before have no language columns, and refuse a dataset with them."""
    export_lerobot(folder, tmp_path / "out", subtasks=[EpisodeRow("v0", 0.0, 0.4, "reach"), EpisodeRow("v0", 0.5, 1.0, "lift")])
    said = json.loads(run_peer(LOAD_LANGUAGE, tmp_path / "out").splitlines()[-1])
    if "error" in said:
        assert said["refused"], said["error"]
    else:
        assert said == {"subtasks": ["reach", "reach", "lift", "lift", None], "task": "drop"}


TRAIN = """
import sys, torch
from torch.utils.data import DataLoader
from lerobot.configs.types import FeatureType
from lerobot.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata
try:
    from lerobot.utils.feature_utils import dataset_to_policy_features
except ImportError:
    from lerobot.datasets.utils import dataset_to_policy_features
from lerobot.policies.factory import make_policy_config, make_pre_post_processors
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy

torch.manual_seed(0)
torch.set_num_threads(2)
root, kind, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
meta = LeRobotDatasetMetadata("local/videolift", root=root)
features = dataset_to_policy_features(meta.features)
outputs = {k: v for k, v in features.items() if v.type is FeatureType.ACTION}
inputs = {k: v for k, v in features.items() if k not in outputs}
assert set(inputs) == {"observation.images.rgb", "observation.state"} and set(outputs) == {"action"}, features
common = dict(input_features=inputs, output_features=outputs, device="cpu", push_to_hub=False)
if kind == "act":
    config = make_policy_config("act", chunk_size=8, n_action_steps=8, dim_model=64, n_heads=4, dim_feedforward=128,
                                n_encoder_layers=2, pretrained_backbone_weights=None, use_vae=False, dropout=0.0, **common)
    policy, lr = ACTPolicy(config), 3e-4
else:
    # It predicts the action itself: predicting the noise learns the same, in many times the steps.
    config = make_policy_config("diffusion", horizon=8, n_action_steps=4, n_obs_steps=1, down_dims=(32, 64), crop_shape=None,
                                spatial_softmax_num_keypoints=8, num_train_timesteps=20, prediction_type="sample", **common)
    policy, lr = DiffusionPolicy(config), 1e-3
pre, _ = make_pre_post_processors(config, dataset_stats=meta.stats)
delta = {"action": [i / meta.fps for i in config.action_delta_indices]}
for key in inputs:
    if config.observation_delta_indices is not None:
        delta[key] = [i / meta.fps for i in config.observation_delta_indices]
splits = {name: range(*map(int, text.split(":"))) for name, text in meta.info["splits"].items()}
train = LeRobotDataset("local/videolift", root=root, episodes=list(splits["train"]), delta_timestamps=delta)
held = LeRobotDataset("local/videolift", root=root, episodes=list(splits["val"]), delta_timestamps=delta)
optimizer = torch.optim.AdamW(policy.parameters(), lr=lr)
loader, done = DataLoader(train, batch_size=8, shuffle=True), 0
policy.train()
while done < steps:
    for batch in loader:
        loss, _ = policy.forward(pre(batch))
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        done += 1
policy.eval()
mean, std = (torch.tensor(meta.stats["action"][k]) for k in ("mean", "std"))
batch = next(iter(DataLoader(held, batch_size=len(held))))
target, keep = batch["action"], ~batch["action_is_pad"]
average = torch.cat([b["action"].reshape(-1, target.shape[-1]) for b in DataLoader(train, batch_size=64)]).mean(0)
with torch.no_grad():
    ready = pre({k: v.clone() if hasattr(v, "clone") else v for k, v in batch.items()})
    if kind == "act":
        from lerobot.utils.constants import OBS_IMAGES
        ready[OBS_IMAGES] = [ready[k] for k in config.image_features]
        found = policy.model(ready)[0]
    else:
        ready = dict(ready)
        ready["observation.images"] = torch.stack([ready[k] for k in config.image_features], dim=-4)
        condition = policy.diffusion._prepare_global_conditioning(ready)
        found = policy.diffusion.conditional_sample(len(held), global_cond=condition)
moves = std > 1e-6
low, high = (torch.tensor(meta.stats["action"][k]) for k in ("min", "max"))
scaled_by_std = config.normalization_mapping["ACTION"].value == "MEAN_STD"
found = found * (std + 1e-8) + mean if scaled_by_std else (found + 1) / 2 * (high - low) + low
scale = std[moves]
model = (((found - target)[..., moves] / scale) ** 2)[keep].mean()
constant = (((average - target)[..., moves] / scale) ** 2)[keep].mean()
print(f"{kind}: held-out error {model:.4f}, of the mean {constant:.4f}")
assert model < constant, (model, constant)
"""


@pytest.fixture(scope="module")
def moving_hands(tmp_path_factory):
    """Four clips of a hand that picks up a box, from other viewpoints and seeds; one is held out."""
    root = tmp_path_factory.mktemp("moving")
    packaged = []
    for seed in range(4):
        write_truth_artifacts(
            root,
            f"clip{seed}",
            render("handheld_rgbd", frames=48, width=96, height=96, seed=seed, side="right"),
            window_length=5,
            grid_px=16,
        )
        row = package_truth(root, root / f"h5_dataset/clip{seed}.hdf5", video=f"clip{seed}", about={"text": "pick up the box"})
        packaged.append(replace(row, metadata={"split": "val" if seed == 3 else "train"}))
    publish_dataset(root / "h5_dataset", packaged, left_out={})
    export_lerobot(root / "h5_dataset", root / "out", PolicyExport(StateSpec(frame="camera", hands=("right",))))
    return root / "out"


@pytest.mark.peers
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("policy", "steps"), [("act", 80), ("diffusion", 300)])
def test_a_policy_of_lerobot_learns_more_than_the_mean(moving_hands, policy, steps):
    print(run_peer(TRAIN, moving_hands, policy, steps))
