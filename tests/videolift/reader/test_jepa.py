"""Masks for joint-embedding prediction: exact, disjoint, the same for any number of workers, checked before a model sees them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from videolift.errors import ConfigError, CorruptFile
from videolift.reader import Draw, Selection, WindowDataset
from videolift.reader.adapters import open_samples
from videolift.reader.jepa import JepaBatch, JepaSource, MaskRule, PatchGrid, draw_masks
from videolift.reader.skips import Skipped, open_or_skip

GRIDS = [PatchGrid((64, 64), (8, 8)), PatchGrid((16, 64, 64), (4, 16, 16)), PatchGrid((48, 96), (16, 8))]


@settings(max_examples=60)
@given(
    st.sampled_from(GRIDS), st.sampled_from(["multi_block", "random"]), st.floats(0.1, 0.8), st.integers(1, 6), st.integers(0, 99)
)
def test_shares_are_exact_and_no_patch_is_both(grid, kind, target, blocks, index):
    rule = MaskRule(kind, target, (1 - target) / 2, blocks)
    context, targets = draw_masks(grid, rule, seed=1, epoch=2, index=index)
    assert (context.shape, targets.shape) == ((grid.count,), (grid.count,))
    assert targets.sum() == round(target * grid.count)
    assert context.sum() == round((1 - target) / 2 * grid.count)
    assert not (context & targets).any()


def test_images_of_another_name_are_asked_for(profiles):
    windows = WindowDataset([profiles["default"]], Selection(points=4))
    with pytest.raises(ConfigError, match=r"a sample has no 'image'; it holds .*rgb.*: name the images in key="):
        JepaSource(windows, (8, 8), key="image")


def test_a_batch_of_which_nothing_could_be_read_is_named():
    with pytest.raises(ConfigError, match="the batch has no views: all 1 of its samples were skipped; pass it over"):
        JepaBatch.of({"skipped": [Skipped(Draw(3), "broken")]}, (8, 8))


def test_masks_follow_from_seed_epoch_and_index():
    grid, rule = GRIDS[1], MaskRule()
    first = draw_masks(grid, rule, seed=0, epoch=0, index=5)
    again = draw_masks(grid, rule, seed=0, epoch=0, index=5)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    for change in ({"seed": 1}, {"epoch": 1}, {"index": 6}):
        other = draw_masks(grid, rule, **({"seed": 0, "epoch": 0, "index": 5} | change))
        assert (other[1] != first[1]).any()


def test_blocks_of_a_clip_go_through_all_its_frames():
    grid = PatchGrid((16, 128, 128), (4, 16, 16))
    _, target = draw_masks(grid, MaskRule(target=0.5, blocks=1), seed=0, epoch=0, index=0)
    frames = target.reshape(grid.shape).sum((1, 2))
    assert frames.min() >= frames.max() - 8  # but for what was uncovered to keep the share exact


def test_every_patch_is_a_target_about_as_often_in_random_masks():
    grid, rule = PatchGrid((32, 32), (8, 8)), MaskRule("random", 0.25)
    counts = sum(draw_masks(grid, rule, seed=0, epoch=0, index=i)[1].astype(int) for i in range(4000))
    assert ((counts - 1000) ** 2 / 750).sum() < 15 + 5 * np.sqrt(30)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PatchGrid((64, 60), (8, 8)), r"size \(64, 60\) is not a whole number of patches of \(8, 8\)"),
        (lambda: PatchGrid((64, 64), (4, 8, 8)), "must both be"),
        (lambda: MaskRule(target=1.0), "target is 1.0"),
        (lambda: MaskRule(target=0.6, context=0.6), "together at most 1"),
        (lambda: MaskRule("tube"), "kind is 'tube'"),
        (lambda: draw_masks(PatchGrid((8, 8), (8, 8)), MaskRule(), seed=0, epoch=0, index=0), "1 patches give 0 targets"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def batch(**changes):
    view = np.zeros((2, 3, 16, 64, 64), np.float32)
    context = np.zeros((2, 64), bool)
    context[:, :8] = True
    fields = {"context_view": view, "target_view": view, "context": context, "target": ~context, "patch": (4, 16, 16)}
    return JepaBatch(**(fields | changes))


def test_a_batch_of_clips_is_accepted():
    assert batch().target.shape == (2, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_view": np.zeros((2, 3, 64, 64), np.float32)}, r"views must both be .* context_view \(2, 3, 64, 64\)"),
        ({"target": np.ones((2, 63), bool)}, r"target must be bool \(2, 64\) .* got bool \(2, 63\)"),
        ({"target": np.ones((2, 64), np.float32)}, "got float32"),
        ({"target": np.ones((2, 64), bool)}, "both context and target"),
        ({"target": np.zeros((2, 64), bool)}, "no context or no target"),
        ({"patch": (4, 16, 12)}, "not a whole number of patches"),
    ],
)
def test_a_batch_that_breaks_the_contract_is_refused_with_its_shapes(changes, message):
    with pytest.raises(ConfigError, match=message):
        batch(**changes)


def test_views_and_masks_of_images_and_clips(profiles):
    image = JepaSource(WindowDataset([profiles["default"]]), (8, 8))
    clip = JepaSource(WindowDataset([profiles["default"]], Selection(past_frames=4)), (2, 16, 16), MaskRule("random", 0.75))
    a, b = image.open(3), clip.open(3, epoch=2)
    assert (a["target_view"].shape, a["context_mask"].shape) == ((3, 64, 64), (64,))
    assert (b["target_view"].shape, b["target_mask"].sum()) == ((3, 4, 64, 64), 24)
    np.testing.assert_allclose(a["target_view"], a["rgb"][0] / 255, atol=1e-6)
    assert (a["context_view"] != a["target_view"]).any()
    np.testing.assert_array_equal(clip.open(3, epoch=2)["context_view"], b["context_view"])


def test_images_that_do_not_fit_the_patches_are_refused_at_once(profiles):
    with pytest.raises(ConfigError, match="whole number of patches"):
        JepaSource(WindowDataset([profiles["default"]]), (7, 7))


def test_images_of_others_get_views_and_masks_and_a_broken_one_is_counted(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "cup").mkdir()
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (32, 48, 3), np.uint8)).save(tmp_path / f"cup/{i}.png")
    source = JepaSource(open_samples(tmp_path), (16, 16), MaskRule("multi_block", target=0.5), key="image")
    sample = source.open(2)
    assert sample["context_view"].shape == (3, 32, 48)
    np.testing.assert_array_equal(np.rint(sample["target_view"] * 255).astype(np.uint8), sample["image"])
    assert (sample["target_mask"].sum(), sample["target_mask"].shape) == (3, (6,))
    (tmp_path / "cup/1.png").write_bytes((tmp_path / "cup/1.png").read_bytes()[:60])
    found = [open_or_skip(source, Draw(i), "skip") for i in range(3)]
    assert [isinstance(f, Skipped) for f in found] == [False, True, False]
    with pytest.raises(CorruptFile, match=r"1\.png"):
        open_or_skip(source, Draw(1), "raise")
