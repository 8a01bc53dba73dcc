"""A folder of 20 videos with 6 bad ones: 14 datasets, 6 reasons, an exit code that says so; and names that attack."""

from __future__ import annotations

import csv
import json

import av
import numpy as np
import pytest
import yaml
from harness import FIXTURES, STAGES, Project

from tests.badvideos import write_bad_videos

GOOD = 14
CODES = {"empty_file", "truncated", "audio_only", "not_a_video", "one_frame", "black"}
BAD = len(CODES)
STRANGE = ("with space", "quote'and\"double", "ünïcode", "-leading dash", ";rm -rf .", "sub/folder", "a;b|c&d", "$(touch attacked)")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    videos = folder / "videos"
    names = [*STRANGE, *(f"good{i}" for i in range(GOOD - len(STRANGE)))]
    for seed, name in enumerate(names):
        write_clip(videos / f"{name}.mp4", seed)
    kinds = write_bad_videos(folder / "all_bad")
    wanted = {code: name for name, code in kinds.items() if code in CODES}
    for name in wanted.values():
        (videos / "bad" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "all_bad" / name).rename(videos / "bad" / name)
    config = {stage: {"backend": str(FIXTURES / f"quick_{stage}.py")} for stage in STAGES if stage not in ("ingest", "create_h5")}
    config |= {"videos": "videos", "output": "output", "ingest": {"width": 64, "height": 48}, "create_h5": {"size": 48}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return Project(folder, seconds=0)


def test_six_bad_of_twenty_are_quarantined_with_reasons_and_the_rest_is_packaged(project):
    assert project.run() == 1
    datasets = list((project.output / "h5_dataset").glob("*.hdf5"))
    assert len(datasets) == GOOD
    index = json.loads((project.output / "h5_dataset" / "dataset.json").read_text())
    assert index["totals"]["videos"] == GOOD
    rows = list(csv.DictReader((project.output / "quarantine.csv").open()))
    assert len(rows) == BAD
    assert {row["code"] for row in rows} == CODES
    assert all(row["reason"] and row["remedy"] and row["stage"] == "ingest" for row in rows)
    assert f"20 in = {GOOD} done + {BAD} quarantined + 0 excluded + 0 pending" in project.terminal()
    assert not list(project.folder.rglob("attacked"))
    assert all(path.resolve().is_relative_to(project.folder) for path in project.output.rglob("*"))


def test_allowed_losses_make_the_exit_code_zero(project):
    assert project.run("--config", f"max_quarantined={BAD}") == 0, project.terminal()


def write_clip(path, seed: int) -> None:
    """A tenth of a megapixel of moving noise, 12 frames at 10 fps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 255, (48, 96, 3), np.uint8)
    with path.open("wb") as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(12):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(texture[:, k : k + 64]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
