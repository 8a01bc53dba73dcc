"""Augmented tracks, keypoints and cameras land where the augmented pixels are, judged on rendered truth; flips swap hands."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from videolift.errors import ConfigError  # noqa: E402
from videolift.reader import Selection, WindowDataset  # noqa: E402
from videolift.reader.torch_augment import Augment, ColourJitter, CropRotate, Flip  # noqa: E402
from videolift.reader.torch_dataset import TorchSamples, collate  # noqa: E402

SELECTION = Selection(points=200, window_frames=True, keypoints=True, joints=True, hand_poses=True)
STEPS = {"flip": [Flip(1.0)], "crop": [CropRotate((0.6, 0.8), 0.0)], "rotate": [CropRotate((0.8, 0.8), 25.0)]}
STEPS["all"] = [Flip(0.5), CropRotate((0.6, 0.9), 20.0)]


@pytest.fixture(scope="module")
def batch(profiles):
    data = TorchSamples(WindowDataset([profiles["default"]], SELECTION))
    return collate([data[i] for i in range(4)])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def painted(batch):
    """The batch with images whose value is a smooth function of where their pixel was: red u, green v."""
    size = batch["rgb"].shape[-1]
    at = (torch.arange(size) + 0.5) / size * 255
    rgb = torch.zeros_like(batch["rgb"], dtype=torch.float32)
    rgb[:, :, 0], rgb[:, :, 1] = at[None, None, None, :], at[None, None, :, None]
    return {**batch, "rgb": rgb.round().to(torch.uint8)}


@pytest.mark.parametrize("name", STEPS)
def test_tracks_land_on_the_pixels_they_were_on(batch, name):
    before = painted(batch)
    after = Augment(STEPS[name])(before, generator())
    size, checked = after["rgb"].shape[-1], 0
    for b in range(4):
        for step in (0, 3):
            was = (before["query"][b] + before["displacement"][b, step])[:, :2]
            now = (after["query"][b] + after["displacement"][b, step])[:, :2]
            inside = ((now > 0.02) & (now < 0.98)).all(-1) & before["point_valid"][b]
            px = (now[inside] * size - 0.5).round().long()
            seen = after["rgb"][b, step][:2, px[:, 1], px[:, 0]].T / 255
            assert (seen - was[inside]).abs().max() < 2.0 / size
            checked += int(inside.sum())
    assert checked > 300


@pytest.mark.parametrize("name", STEPS)
def test_joints_project_onto_the_keypoints_by_the_new_camera(batch, name):
    after = Augment(STEPS[name])(batch, generator())
    for side in (0, 1):
        known = after["joints_camera_valid"][:, :, side] & after["keypoints_px_valid"][:, :, side]
        joints = after["joints_camera"][:, :, side]
        px = torch.einsum("bij,bfnj->bfni", after["intrinsics"], joints)
        px = px[..., :2] / px[..., 2:].clamp(min=1e-6)
        if known.any():
            assert (px - after["keypoints_px"][:, :, side])[known].abs().max() < 0.6
    assert after["joints_camera_valid"].any()


def test_a_flip_swaps_the_hands_and_twice_is_nothing(batch):
    once = Flip(1.0)(batch, generator())
    assert batch["hand_valid"].tolist() == [[False, True]] * 4
    assert once["hand_valid"].tolist() == [[True, False]] * 4
    assert (once["hand_query_uvd"][:, 1] == 0).all()
    R = once["T_camera_wrist"][:, :, 0, :3, :3]
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(R.shape[:2]), atol=1e-4, rtol=0)
    twice = Flip(1.0)(once, generator())
    for key, value in batch.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(twice[key], value, atol=2e-5, rtol=1e-5, msg=key)


def test_a_flipped_rotation_is_that_of_the_mirrored_hand(batch):
    once = Flip(1.0)(batch, generator())
    M = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    R = batch["T_camera_wrist"][:, :, 1, :3, :3]
    torch.testing.assert_close(once["T_camera_wrist"][:, :, 0, :3, :3], M @ R @ M)
    six = once["hand_query_rot6d"][:, 0]
    torch.testing.assert_close(six[:, :3], (M @ R @ M)[:, 0, :, 0], atol=1e-5, rtol=0)


def test_points_that_leave_the_image_are_not_visible(batch):
    after = CropRotate((0.5, 0.5), 0.0)(batch, generator())
    at = after["query"][:, None, :, :2] + after["displacement"][..., :2]
    outside = ((at < 0) | (at >= 1)).any(-1)
    assert outside.any()
    assert not after["visible"][outside].any()


def test_colour_changes_images_only_and_within_their_range(batch):
    after = ColourJitter(0.5, 0.5)(batch, generator())
    assert (after["rgb"] != batch["rgb"]).any()
    assert all(after[key] is batch[key] for key in batch if key != "rgb")


def test_equal_seeds_give_equal_batches(batch):
    a, b, c = (Augment(STEPS["all"])(batch, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(a["rgb"], b["rgb"])
    assert not torch.equal(a["rgb"], c["rgb"])


def test_a_normalized_batch_is_refused(batch):
    with pytest.raises(ConfigError, match="augment before normalizing"):
        Augment([Flip()])({**batch, "rgb": batch["rgb"].float()}, generator())
