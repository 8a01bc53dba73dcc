"""The MoGe worker against upstream's own calls."""

import numpy as np
import pytest

from videolift.geometry import pinhole, project

META = {"resolution_level": 0, "batch_frames": 2}


@pytest.fixture(scope="module")
def direct(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("moge")
    np.save(folder / "rgb.npy", np.random.default_rng(0).integers(0, 256, (3, 96, 128, 3), np.uint8))
    run("direct_moge.py", folder)
    return folder, dict(np.load(folder / "direct.npz"))


@pytest.fixture(scope="module")
def worker(start, direct, upstream):
    paths = [str(upstream / "MoGe"), str(upstream / "utils3d")]
    return start("depth/moge_worker.py", {"paths": paths, "weights": str(direct[0] / "moge.pt"), "device": "cpu"})


def _positive(depth):
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0)


def test_the_worker_returns_what_upstream_returns(worker, direct):
    folder, wanted = direct
    rgb = np.load(folder / "rgb.npy")
    _, free = worker.call({**META, "hfov_deg": None, "mask": False}, {"rgb": rgb})
    _, fixed = worker.call({**META, "hfov_deg": 60.0, "mask": False}, {"rgb": rgb})
    scale = np.abs(wanted["depth"]).max()
    worst = max(
        np.abs(free["depth"] - _positive(wanted["depth"])).max(), np.abs(fixed["depth"] - _positive(wanted["depth_fixed"])).max()
    )
    print(f"MoGe: worker against upstream, max difference {worst / scale:.1e} of the largest depth")
    assert worst <= 1e-4 * scale
    assert free["hfov_deg"] == pytest.approx(2 * np.degrees(np.arctan(0.5 / wanted["intrinsics"][:, 0, 0])), abs=1e-4)
    assert fixed["hfov_deg"] == pytest.approx(60.0, abs=1e-4)


def test_the_releases_without_normals_are_read_by_the_same_worker(start, direct, upstream):
    folder, wanted = direct
    paths = [str(upstream / "MoGe"), str(upstream / "utils3d")]
    plain = start("depth/moge_worker.py", {"paths": paths, "weights": str(folder / "plain.pt"), "device": "cpu"})
    _, out = plain.call({**META, "hfov_deg": 60.0, "mask": False}, {"rgb": np.load(folder / "rgb.npy")})
    scale = np.abs(wanted["depth_plain"]).max()
    assert np.abs(out["depth"] - _positive(wanted["depth_plain"])).max() <= 1e-4 * scale


def test_masked_depth_is_zero_and_never_infinite(worker, direct):
    folder, wanted = direct
    _, out = worker.call({**META, "hfov_deg": 60.0}, {"rgb": np.load(folder / "rgb.npy")})
    assert np.isfinite(out["depth"]).all()
    masked = np.isinf(wanted["depth_masked"])
    assert 0.1 < masked.mean() < 0.9, "nothing is compared"
    assert (out["depth"][masked] == 0).all()
    assert (out["depth"][~masked] > 0).all()


def test_our_camera_projects_upstreams_points_onto_their_pixels(direct):
    """The principal point: 0.5 W at upstream's pixel edges is (W - 1) / 2 at our pixel centres."""
    wanted = direct[1]["points_fixed"][0]
    height, width = wanted.shape[:2]
    K = pinhole(width / 2 / np.tan(np.radians(30)), width, height)
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    front = wanted[..., 2] > 0
    assert project(wanted[front].astype(np.float64), K) == pytest.approx(np.stack([u, v], -1)[front], abs=1e-2)
