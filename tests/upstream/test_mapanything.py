"""The MapAnything worker against upstream's own inference, at reduced size with random weights."""

import numpy as np
import pytest

from videolift.errors import BackendUnavailable


@pytest.fixture(scope="module")
def direct(run, tmp_path_factory):
    """Frames of whole patches, so that nothing is resized; with K, what upstream makes of them."""
    folder = tmp_path_factory.mktemp("mapanything")
    rgb = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), np.uint8).repeat(14, 1).repeat(14, 2)
    K = np.array([[100.0, 0, 55.5], [0, 100, 41.5], [0, 0, 1]])
    np.savez(folder / "input.npz", rgb=rgb, K=K)
    run("direct_mapanything.py", folder)
    return folder, {"rgb": rgb, "K": K}, dict(np.load(folder / "direct.npz"))


def meta_of(folder, upstream, **changes):
    paths = [str(upstream / "map-anything"), str(upstream / "UniCeption")]
    weights = {"dinov2": str(upstream / "dinov2"), "weights": str(folder / "weights")}
    return {"paths": paths, "device": "cpu", **weights, **changes}


@pytest.fixture(scope="module")
def worker(start, direct, upstream):
    return start("depth/mapanything_worker.py", meta_of(direct[0], upstream))


@pytest.mark.parametrize("name", ["free", "given"])
def test_the_worker_returns_what_upstream_returns(worker, direct, name):
    _, given, wanted = direct
    told = []
    K = given["K"].tolist() if name == "given" else None
    _, out = worker.call({"K": K, "side_px": 112, "mask": False}, {"rgb": given["rgb"]}, lambda *step: told.append(step))
    positive = np.where(wanted[f"{name}_depth"] > 0, wanted[f"{name}_depth"], 0)
    worst = max(
        np.abs(out["depth"] - positive).max() / positive.max(), np.abs(out["T_world_camera"] - wanted[f"{name}_poses"]).max()
    )
    print(f"MapAnything, {name}: worker against upstream, max difference {worst:.1e}")
    assert worst <= 1e-4
    K = wanted[f"{name}_K"]
    np.testing.assert_allclose(out["intrinsics"], K[:, [0, 1, 0, 1], [0, 1, 2, 2]], rtol=1e-4)
    assert np.abs(out["depth"][0] - out["depth"][1]).max() > 0  # frames differ
    assert told, "no sign of life while it computed"


def test_a_given_camera_changes_what_it_finds(direct):
    wanted = direct[2]
    assert np.abs(wanted["free_depth"] - wanted["given_depth"]).max() > 1e-6


def test_frames_of_another_size_come_back_at_their_own(worker, direct):
    rgb = np.ascontiguousarray(direct[1]["rgb"][:2, :75, :100])
    _, out = worker.call({"K": None, "side_px": 112, "mask": False}, {"rgb": rgb})
    assert out["depth"].shape == (2, 75, 100)
    assert out["T_world_camera"].shape == (2, 4, 4)


def test_a_pickle_among_the_weights_is_refused(start, direct, upstream, tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\n.")
    with pytest.raises(BackendUnavailable, match="bare pickle"):
        start("depth/mapanything_worker.py", meta_of(direct[0], upstream, weights=str(tmp_path)))
