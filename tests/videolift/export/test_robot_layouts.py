"""GR00T's, openpi's and WebDataset's layouts: what their documents say they hold, and the true values in it."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from io import BytesIO

import av
import cv2
import numpy as np
import pytest

from videolift.errors import ConfigError
from videolift.export.lerobot_v2 import VIDEO_KEY, export_lerobot_v2, modality_table
from videolift.export.policy_rows import PolicyExport
from videolift.export.webdataset import export_webdataset
from videolift.reader import PackagedFile
from videolift.reader.policies.state import StateSpec

pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def groot(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("groot") / "out"
    export_lerobot_v2(clips, out, "groot")
    return out


def test_modality_names_every_number_once():
    export = PolicyExport(StateSpec(fingertips=True, action="delta"))
    table = modality_table(export)
    for kind, names in (("state", export.state_names), ("action", export.action_names)):
        spans = sorted((field["start"], field["end"]) for field in table[kind].values())
        assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
        assert spans[-1][1] == len(names)
    assert table["state"]["right_wrist_rot6d"] == {"start": 29, "end": 35, "rotation_type": "rotation_6d"}
    assert table["action"]["left_wrist_position"] == {"start": 0, "end": 3, "absolute": False}
    assert table["state"]["left_thumb_tip"] == {"start": 11, "end": 14}


def test_files_lie_where_info_says(groot, clips):
    info = json.loads((groot / "meta/info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"]) == ("v2.1", 3, 33)
    episodes = [json.loads(line) for line in (groot / "meta/episodes.jsonl").read_text().splitlines()]
    tasks = [json.loads(line) for line in (groot / "meta/tasks.jsonl").read_text().splitlines()]
    assert [(e["tasks"], e["length"]) for e in episodes] == [(["lift"], 11), (["drop"], 11), (["lift"], 11)]
    assert tasks == [{"task": "lift", "task_index": 0}, {"task": "drop", "task_index": 1}]
    modality = json.loads((groot / "meta/modality.json").read_text())
    assert modality["video"] == {"ego_view": {"original_key": VIDEO_KEY}}
    for number in range(3):
        at = {"episode_chunk": 0, "episode_index": number, "video_key": VIDEO_KEY}
        rows = pq.read_table(groot / info["data_path"].format(**at)).to_pydict()
        assert np.shape(rows["observation.state"]) == (11, 24)
        assert rows["annotation.human.action.task_description"] == [number % 2] * 11
        assert rows["next.done"] == [False] * 10 + [True]
        assert {name for name in info["features"] if name != VIDEO_KEY} == set(rows)
        with av.open(str(groot / info["video_path"].format(**at))) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        with PackagedFile(clips / f"v{number}.hdf5") as file:
            truth = file.rgb(slice(0, 11)).transpose(0, 2, 3, 1)
        assert np.shape(frames) == truth.shape
        assert np.abs(np.array(frames, float) - truth).mean() < 6


def test_openpis_norm_stats_are_those_of_the_rows(clips, tmp_path):
    export_lerobot_v2(clips, tmp_path / "out", "openpi", PolicyExport(StateSpec(hands=("right",))))
    stats = json.loads((tmp_path / "out/norm_stats.json").read_text())["norm_stats"]
    rows = [pq.read_table(path).to_pydict() for path in sorted((tmp_path / "out/data").rglob("*.parquet"))]
    for key, column in (("state", "observation.state"), ("actions", "action")):
        values = np.concatenate([np.array(r[column]) for r in rows])
        np.testing.assert_allclose(stats[key]["mean"], values.mean(0), atol=1e-6)
        np.testing.assert_allclose(stats[key]["q99"], np.quantile(values, 0.99, axis=0), atol=1e-6)
    with pytest.raises(ConfigError, match="holds a dataset already"):
        export_lerobot_v2(clips, tmp_path / "out", "openpi")


LOAD_NORM_STATS = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("normalize", sys.argv[1] + "/src/openpi/shared/normalize.py")
module = importlib.util.module_from_spec(spec)
sys.modules["normalize"] = module
spec.loader.exec_module(module)
found = module.load(sys.argv[2])
names = ("mean", "std", "q01", "q99")
print(json.dumps({key: {name: getattr(value, name).tolist() for name in names} for key, value in found.items()}))
"""


@pytest.mark.peers
def test_openpis_own_loader_reads_the_norm_stats(clips, tmp_path):
    """VIDEOLIFT_PEERS names a Python with numpydantic and pydantic, VIDEOLIFT_OPENPI a checkout."""
    python, checkout = os.environ.get("VIDEOLIFT_PEERS"), os.environ.get("VIDEOLIFT_OPENPI")
    if not (python and checkout):
        pytest.skip("VIDEOLIFT_PEERS and VIDEOLIFT_OPENPI name no Python and no checkout of openpi")
    export_lerobot_v2(clips, tmp_path / "out", "openpi")
    done = subprocess.run([python, "-c", LOAD_NORM_STATS, checkout, tmp_path / "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads((tmp_path / "out/norm_stats.json").read_text())["norm_stats"]
    for key, loaded in json.loads(done.stdout).items():
        for name, values in loaded.items():
            np.testing.assert_allclose(values, written[key][name], atol=1e-9)
    assert set(written) == {"state", "actions"}


LOAD_V2 = """
import sys, numpy as np
try:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
except ImportError:
    from lerobot.common.datasets.lerobot_dataset import LeRobotDataset
steps = {"action": [k / 10 for k in range(4)]}
dataset = LeRobotDataset("local/videolift", root=sys.argv[1], delta_timestamps=steps)
rows = [dataset[i] for i in (0, 15, 20, 32)]
out = {name: np.stack([row[name].numpy() for row in rows]) for name in rows[0] if hasattr(rows[0][name], "numpy")}
mean = {name: table["mean"] for name, table in dataset.meta.stats.items()}
np.savez(sys.argv[2], length=len(dataset), fps=dataset.fps, tasks=[row["task"] for row in rows], mean=mean["action"], **out)
"""


@pytest.mark.peers
@pytest.mark.parametrize("layout", ["groot", "openpi"])
def test_lerobot_of_v2_reads_both_layouts(clips, tmp_path, layout):
    """It is how openpi reads its data. VIDEOLIFT_LEROBOT_V2 names a Python with such a release, the last is 0.3.3."""
    python = os.environ.get("VIDEOLIFT_LEROBOT_V2")
    if not python:
        pytest.skip("VIDEOLIFT_LEROBOT_V2 names no Python with a LeRobot that reads v2.1")
    export_lerobot_v2(clips, tmp_path / "out", layout)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": ""}
    arguments = [python, "-c", LOAD_V2, tmp_path / "out", tmp_path / "seen.npz"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    files = sorted((tmp_path / "out/data").rglob("*.parquet"))
    actions = np.stack([np.array(pq.read_table(path)["action"].to_pylist(), np.float32) for path in files])
    with np.load(tmp_path / "seen.npz") as seen:
        assert (int(seen["length"]), int(seen["fps"]), seen["tasks"].tolist()) == (33, 10, ["lift", "drop", "drop", "lift"])
        np.testing.assert_array_equal(seen["action"][1], actions[1, 4:8])
        assert seen["action_is_pad"].tolist()[2:] == [[False, False, True, True], [False, True, True, True]]
        np.testing.assert_allclose(seen["mean"], actions.reshape(33, -1).mean(0), atol=1e-6)
        for image, (number, t) in zip(seen[VIDEO_KEY] * 255, [(0, 0), (1, 4), (1, 9), (2, 10)], strict=True):
            with PackagedFile(clips / f"v{number}.hdf5") as file:
                assert np.abs(image - file.rgb(slice(t, t + 1))[0]).mean() < 6


LOAD_GROOT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from gr00t.data.dataset.lerobot_episode_loader import LeRobotEpisodeLoader
from gr00t.data.types import ModalityConfig
import numpy as np
modality = json.load(open(sys.argv[2] + "/meta/modality.json"))
wanted = {
    "video": ModalityConfig(delta_indices=[0], modality_keys=list(modality["video"])),
    "state": ModalityConfig(delta_indices=[0], modality_keys=list(modality["state"])),
    "action": ModalityConfig(delta_indices=list(range(4)), modality_keys=list(modality["action"])),
    "language": ModalityConfig(delta_indices=[0], modality_keys=["annotation." + next(iter(modality["annotation"]))]),
}
loader = LeRobotEpisodeLoader(sys.argv[2], wanted, video_backend="opencv")
frame = loader[1]
out = {name: np.array([np.ravel(value) for value in frame[name]]) for name in frame if not name.startswith(("video", "language"))}
for modality, groups in loader.get_dataset_statistics().items():
    for group, table in groups.items():
        out[f"statistics/{modality}.{group}"] = np.array([table[key] for key in ("mean", "std", "min", "max", "q01", "q99")])
language = next(name for name in frame if name.startswith("language"))
bgr = np.stack(frame["video.ego_view"])
np.savez(sys.argv[3], lengths=loader.episode_lengths, said=frame[language].tolist(), rgb=bgr[..., ::-1], **out)
"""


@pytest.mark.peers
def test_groots_own_loader_reads_the_episodes(groot, clips, tmp_path):
    """VIDEOLIFT_PEERS names a Python with pandas, torchvision, av and opencv, VIDEOLIFT_GROOT a checkout (seen at d6a011619ba5)."""
    python, checkout = os.environ.get("VIDEOLIFT_PEERS"), os.environ.get("VIDEOLIFT_GROOT")
    if not (python and checkout):
        pytest.skip("VIDEOLIFT_PEERS and VIDEOLIFT_GROOT name no Python and no checkout of Isaac-GR00T")
    arguments = [python, "-c", LOAD_GROOT, checkout, groot, tmp_path / "seen.npz"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = pq.read_table(groot / "data/chunk-000/episode_000001.parquet").to_pydict()
    everything = [pq.read_table(path).to_pydict() for path in sorted((groot / "data").rglob("*.parquet"))]
    with np.load(tmp_path / "seen.npz") as seen:
        assert seen["lengths"].tolist() == [11, 11, 11]
        assert seen["said"].tolist() == ["drop"] * 11
        modality = json.loads((groot / "meta/modality.json").read_text())
        for kind, column in (("state", "observation.state"), ("action", "action")):
            values = np.concatenate([np.array(part[column]) for part in everything])
            for name, span in modality[kind].items():
                part = slice(span["start"], span["end"])
                np.testing.assert_array_equal(seen[f"{kind}.{name}"], np.array(rows[column], np.float32)[:, part])
                mean, std, *_, q99 = seen[f"statistics/{kind}.{name}"]
                np.testing.assert_allclose(mean, values[:, part].mean(0), atol=1e-6)
                np.testing.assert_allclose(std, values[:, part].std(0), atol=1e-6)
                np.testing.assert_allclose(q99, np.quantile(values[:, part], 0.99, axis=0), atol=1e-6)
        with PackagedFile(clips / "v1.hdf5") as file:
            assert np.abs(seen["rgb"].transpose(0, 3, 1, 2).astype(float) - file.rgb(slice(0, 11))).mean() < 6


def test_shards_hold_every_row_in_order_and_the_index_counts_them(clips, tmp_path):
    export_webdataset(clips, tmp_path / "out", shard_samples=11)
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert [(s["url"], s["nsamples"], s["split"]) for s in index["shardlist"]] == [
        ("train-000000.tar", 11, "train"),
        ("train-000001.tar", 11, "train"),
        ("val-000000.tar", 11, "val"),
    ]
    with tarfile.open(tmp_path / "out/train-000001.tar") as tar:
        names = tar.getnames()
        content = {name: tar.extractfile(name).read() for name in names}
    assert [name.partition(".")[0] for name in names[::4]] == [f"v1_{t:06d}" for t in range(11)]
    about = json.loads(content["v1_000004.json"])
    assert (about["video"], about["frame"], about["task"], about["episode"]) == ("v1", 4, "drop", 1)
    assert np.load(BytesIO(content["v1_000004.state.npy"])).shape == (len(index["state"]),)
    assert np.load(BytesIO(content["v1_000004.action.npy"])).shape == (len(index["action"]),)
    image = cv2.imdecode(np.frombuffer(content["v1_000004.rgb.png"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    with PackagedFile(clips / "v1.hdf5") as file:
        np.testing.assert_array_equal(image.transpose(2, 0, 1), file.rgb(slice(4, 5))[0])


def test_equal_datasets_give_equal_shards(clips, tmp_path):
    for name in ("a", "b"):
        export_webdataset(clips, tmp_path / name)
    for shard in (tmp_path / "a").glob("*.tar"):
        assert shard.read_bytes() == (tmp_path / "b" / shard.name).read_bytes()


LOAD_WEBDATASET = """
import json, os, sys, numpy as np
import webdataset, wids
folder = sys.argv[1]
index = json.load(open(folder + "/index.json"))
shards = [os.path.join(folder, shard["url"]) for shard in index["shardlist"] if shard["split"] == "train"]
stream = list(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"))
random = wids.ShardListDataset(folder + "/index.json", cache_dir=sys.argv[2])
row = random[26]
np.savez(
    sys.argv[3], keys=[sample["__key__"] for sample in stream], images=np.stack([sample["rgb.png"] for sample in stream]),
    states=np.stack([sample["state.npy"] for sample in stream]), tasks=[sample["json"]["task"] for sample in stream],
    count=len(random), row_state=row[".state.npy"], row_image=np.asarray(row[".rgb.png"]), row_video=row[".json"]["video"],
)
"""


@pytest.mark.peers
def test_webdataset_streams_the_shards_and_wids_reads_any_sample(clips, tmp_path):
    """VIDEOLIFT_PEERS names a Python with webdataset and wids, which has been a package of its own since webdataset 1.0."""
    python = os.environ.get("VIDEOLIFT_PEERS")
    if not python:
        pytest.skip("VIDEOLIFT_PEERS names no Python with webdataset and wids")
    export_webdataset(clips, tmp_path / "out", shard_samples=11)
    arguments = [python, "-c", LOAD_WEBDATASET, tmp_path / "out", tmp_path / "cache", tmp_path / "seen.npz"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "seen.npz") as seen:
        assert seen["keys"].tolist() == [f"v{n}_{t:06d}" for n in range(2) for t in range(11)]
        assert seen["tasks"].tolist() == ["lift"] * 11 + ["drop"] * 11
        assert seen["states"].shape == (22, 24)
        assert (int(seen["count"]), str(seen["row_video"]), seen["row_state"].shape) == (33, "v2", (24,))
        for image, (number, t) in [(seen["images"][15], (1, 4)), (seen["row_image"], (2, 4))]:
            with PackagedFile(clips / f"v{number}.hdf5") as file:
                np.testing.assert_array_equal(image.transpose(2, 0, 1), file.rgb(slice(t, t + 1))[0])
