"""Small packaged files of random but consistent content, written with the real writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from videolift.dataset import PackagedVideo
from videolift.dataset.package import DatasetWriter

FRAMES, SIZE, LENGTH, WINDOWS = 6, 8, 3, 4


def write_packaged(
    path: Path, seed: int = 0, *, tier: str = "A", scale: str = "metric", intrinsics: str = "given", source: str | None = None
) -> PackagedVideo:
    rng = np.random.default_rng(seed)
    out = DatasetWriter(path)
    points = rng.integers(0, 30, WINDOWS)
    total = int(points.sum())
    rgb = rng.integers(0, 256, (FRAMES, 3, SIZE, SIZE), np.uint8)
    depth = rng.uniform(0.3, 2.0, (FRAMES, SIZE, SIZE)).astype(np.float16)
    query = rng.uniform(0.3, 0.7, (total, 3)).astype(np.float32)
    displacement = rng.normal(scale=0.01, size=(LENGTH, total, 3)).astype(np.float32)
    displacement[0] = 0
    pose9d = np.tile(np.array([1, 0, 0, 0, 1, 0, 0, 0, 0], np.float32), (WINDOWS, LENGTH, 1))
    out.append(rgb=rgb, depth=depth, timestamps=np.arange(FRAMES) / 10)
    out.put(**{"camera/intrinsics": np.array([[9, 0, 3.5], [0, 9, 3.5], [0, 0, 1]])})
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    out.append(**{"camera/T_camera_world": poses, "camera/pose_valid": np.ones(FRAMES, bool)})
    out.append(**{"tracks/window_start": np.arange(WINDOWS), "tracks/offsets": np.concatenate([[0], np.cumsum(points)])})
    out.append(**{"tracks/query": query, "tracks/displacement": displacement, "tracks/pose9d": pose9d})
    out.append(**{"tracks/visible": np.ones((LENGTH, total), bool), "tracks/label": np.zeros(total, np.uint8)})
    out.statistics.add_rgb(rgb)
    out.statistics.add_depth(depth, (0.1, 2.5))
    out.statistics.add("query_depth", query[:, 2:])
    out.statistics.add("displacement", displacement)
    out.statistics.add("pose", pose9d)
    lineage = {"depth": {"backend": {"name": "rgbd", "version": 1}, "shrink": 1.0, "checks": [], "figures": {"x": float("nan")}}}
    out.describe(
        tier=tier,
        scale=scale,
        pose="given",
        intrinsics=intrinsics,
        parts=["depth", "tracks"],
        missing={},
        profile="default",
        size=SIZE,
        fps=10.0,
        window_length=LENGTH,
        stride=1,
        lineage=lineage,
        depth_min_m=0.1,
        depth_max_m=2.5,
        length_unit="metre",
        source={"sha256": source or f"source of {path.stem}"},
    )
    published = out.publish()
    return PackagedVideo(path.stem, path, published.sha256, published.bytes)


@pytest.fixture
def make_packaged(tmp_path):
    def make(count=5, *, folder="h5_dataset", **kwargs):
        return [write_packaged(tmp_path / folder / f"video{i}.hdf5", i, **kwargs) for i in range(count)]

    return make
