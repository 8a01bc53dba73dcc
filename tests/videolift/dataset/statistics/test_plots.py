"""Statistics for people: the table and the picture say what the files hold."""

from __future__ import annotations

from dataclasses import replace

import cv2
import h5py
import numpy as np
import pytest

from tests.videolift.dataset.conftest import write_packaged
from videolift.dataset import publish_dataset
from videolift.dataset.statistics.plots import load_statistics, plot_statistics, statistics_rows, statistics_text
from videolift.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    rows = [write_packaged(tmp_path / "d" / f"v{i}.hdf5", i) for i in range(3)]
    rows = [replace(row, metadata={"split": split}) for row, split in zip(rows, ("train", "train", "val"), strict=True)]
    publish_dataset(tmp_path / "d", rows, left_out={})
    return tmp_path / "d"


def test_the_table_has_a_line_per_channel_with_its_figures(folder):
    statistics, group = load_statistics(folder)
    lines = statistics_text(statistics).splitlines()
    assert group == "A-metric"
    assert len(lines) == 1 + 3 + 1 + 1 + 3 + 9
    assert lines[0].split() == ["channel", "samples", "mean", "std", "min", "1%", "5%", "25%", "50%", "75%", "95%", "99%", "max"]
    red = next(line for line in lines if line.startswith("rgb") and "red" in line).split()
    with h5py.File(folder / "v0.hdf5") as file:
        frames = file["rgb"].shape[0]
    assert int(red[2]) == 3 * frames * 64


def test_a_split_has_its_own_figures(folder):
    whole, _ = load_statistics(folder)
    parts = [load_statistics(folder, split=split)[0] for split in ("train", "val")]
    count = [next(s.samples for n, c, s in statistics_rows(x) if n == "displacement") for x in (whole, *parts)]
    assert count[0] == count[1] + count[2]
    with pytest.raises(ConfigError, match="split is 'test'"):
        load_statistics(folder, split="test")


def test_the_picture_has_a_panel_per_channel_and_bars_in_it(folder, tmp_path):
    statistics, _ = load_statistics(folder)
    plot_statistics(statistics, tmp_path / "stats.png", title="A-metric, 3 videos")
    image = cv2.imread(str(tmp_path / "stats.png"))
    assert image.shape == (30 + 6 * 190, 900, 3)
    bars = (image == (180, 130, 70)).all(-1)
    assert all(bars[30 + 190 * (i // 3) : 220 + 190 * (i // 3), 300 * (i % 3) : 300 * (i % 3 + 1)].any() for i in range(17))
    assert np.array_equal(image[-1, -1], (255, 255, 255))
