"""docs/training.md, block by block: what it types is run, in order, beside small files of every kind that it names."""

import re
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from videolift.reader import open_dataset
from videolift.reader.adapters import open_samples
from videolift.reader.mixing.mixture_file import read_mixture

PAGE = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
BLOCKS = {kind: re.findall(rf"^ *```{kind}\n(.*?)^ *```", PAGE, re.S | re.M) for kind in ("python", "yaml")}


@pytest.fixture
def here(dataset_folder, tmp_path, monkeypatch):
    """A folder with all that the page names, and the current one."""
    for name in ("output", "lab", "home"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "h5_dataset").symlink_to(dataset_folder)
    noise = np.random.default_rng(0)
    (tmp_path / "images" / "cup").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(noise.integers(0, 255, (224, 224, 3), np.uint8)).save(tmp_path / f"images/cup/{number}.png")
    encoded = [np.frombuffer((tmp_path / f"images/cup/{number % 3}.png").read_bytes(), np.uint8) for number in range(12)]
    (tmp_path / "web").mkdir()
    for name, keys in (("sequences.h5", ("images", "metadata", "view")), ("web/sequences.h5", ("frames", "table", "cam"))):
        with h5py.File(tmp_path / name, "w") as file:
            images = file.create_dataset(keys[0], len(encoded), h5py.vlen_dtype(np.uint8))
            for row, image in enumerate(encoded):
                images[row] = image
            table = file.create_group(keys[1])
            table["sequence"], table[keys[2]], table["frame"] = [b"a"] * 12, [b"top"] * 12, np.arange(12)
    with h5py.File(tmp_path / "robot.h5", "w") as file:
        file["obs/images/top"], file["obs/qpos"] = np.zeros((5, 3, 4, 4), np.uint8), np.zeros((5, 2))
    with h5py.File(tmp_path / "demos.h5", "w") as file:
        for name in ("data/demo_0", "data/demo_1"):
            file[f"{name}/obs/image"], file[f"{name}/actions"] = np.zeros((5, 4, 4, 3), np.uint8), noise.random((5, 2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_mixture_is_read(here):
    (block,) = BLOCKS["yaml"]
    (here / "mixture.yaml").write_text(block)
    assert read_mixture(here / "mixture.yaml", mode="weighted").counts(4000)["lab"] == pytest.approx(2800, abs=60)


@pytest.mark.torch
def test_its_blocks_run_in_order(here):
    pytest.importorskip("torch")
    from videolift.reader.torch_dataset import training_loader

    names = {"lab": open_dataset("lab/h5_dataset"), "home": open_dataset("home/h5_dataset"), "step": 0}
    names["open_samples"] = open_samples
    assert len(BLOCKS["python"]) == 9
    for block in BLOCKS["python"]:
        if "augment(batch" in block:
            names["batch"] = next(iter(training_loader(names["windows"], batch_size=4)))
        exec(textwrap.dedent(block), names)
    assert names["sample"]["query"].shape == (64, 3)
    assert names["batch"]["rgb"].shape[0] == 4
