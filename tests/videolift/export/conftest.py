"""A dataset of three clips in two splits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.videolift.reader.conftest import artifacts, package_truth  # noqa: F401
from videolift.dataset import publish_dataset


@pytest.fixture(scope="session")
def clips(artifacts, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("clips") / "h5_dataset"
    rows = []
    for i, text in enumerate(["lift", "drop", "lift"]):
        row = package_truth(artifacts, folder / f"v{i}.hdf5", about={"text": text})
        rows.append(replace(row, metadata={"split": "val" if i == 2 else "train"}))
    publish_dataset(folder, rows, left_out={})
    return folder
