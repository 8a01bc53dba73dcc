"""SAM 2's adapter: from the row's cell or mask to ids in every frame, chunk by chunk, through kills and without memory."""

import sys
from pathlib import Path

import numpy as np
import pytest

from stages.backend import Inputs
from stages.create_h5.hdf5 import BACKEND as PACKAGING
from stages.masks import sam2
from tests.blocks import blocks_of
from videolift.artifacts import Clip, ClipWriter
from videolift.artifacts.object_masks import ObjectMasks
from videolift.errors import BadInput, Crash, OutOfMemory
from videolift.inputs.framing import Framing
from videolift.inputs.video import Video
from videolift.pool import Device

CPU = Device("cpu", "cpu", "CPU", 1 << 33)
STANDIN = Path(__file__).parents[1] / "standins" / "sam2_worker.py"
T, H, W = 50, 24, 32
SLOW = "sam2 ran on the CPU, slowly, since no card may be used"
RED, BLUE = (200, 10, 10), (10, 10, 200)


def scene():
    """Frames, and where a red square runs to the right and a blue one stays, hidden after frame 3."""
    rgb, truth = np.full((T, H, W, 3), 90, np.uint8), np.zeros((T, H, W), np.uint8)
    for k in range(T):
        x = 2 + k // 3
        rgb[k, 4:8, x : x + 4], truth[k, 4:8, x : x + 4] = RED, 1
        if k < 4:
            rgb[k, 14:20, 20:26], truth[k, 14:20, 20:26] = BLUE, 2
    return rgb, truth


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Of a video of twice the size, whose left and right quarters are cut away."""
    out = ClipWriter(tmp_path_factory.mktemp("clip") / "clip.h5")
    out.append_frames(scene()[0], np.arange(T) / 10)
    source = {"fps_measured": 10.0, "vfr": False, "first_pts_s": 0.0, "start_s": None, "end_s": None}
    out.describe(fps=10.0, source=source, framing=Framing.fit((4 * W, 2 * H), (W, H), "crop").to_attrs())
    return Clip(out.publish().path)


def source_px(x, y):
    """A pixel of the clip in the video."""
    return 2 * x + W, 2 * y


@pytest.fixture
def made(clip, tmp_path, monkeypatch):
    """``made(objects=..., mask=..., trouble=...)``: artifact and quality; equal names go on with what a killed attempt kept."""
    monkeypatch.setattr(sam2, "SAM2_WORKER", STANDIN)
    monkeypatch.setattr(sam2, "CHUNK_FRAMES", 4)

    def make(name="out", *, trouble="", **row):
        (tmp_path / "weights").write_text(trouble)
        checkout = tmp_path / "checkout"
        checkout.mkdir(exist_ok=True)
        own = {"python": sys.executable, "weights": str(tmp_path / "weights"), "checkout": str(checkout)}
        block = blocks_of(masks={"backend": "sam2", "segment_s": 1.2, "sam2": own})["masks"]
        backend = sam2.BACKEND(block, root=Path(__file__).parents[3])
        out = backend.writer(tmp_path / f"{name}.h5", segments=tmp_path / f"{name}-segments")
        backend.load(CPU)
        try:
            video = Video("v", "v.mp4", **row)
            quality = backend.process(Inputs(video, clip=clip), out, shrink=1.0, progress=lambda done, total: None)
            return ObjectMasks(out.publish().path), quality
        finally:
            out.discard()
            backend.close()

    return make


def cell():
    (x, y), (left, top), (right, bottom) = source_px(3, 5), source_px(20, 14), source_px(25, 19)
    return f"{x} {y}; {left} {top} {right} {bottom}"


def test_a_click_and_a_box_are_followed_and_one_that_is_hardly_seen_is_named(made):
    masks, quality = made(objects=cell())
    assert (masks[:] == scene()[1]).all()
    assert masks.objects == [{"id": 1, "given": "click"}, {"id": 2, "given": "box"}]
    assert quality.checks == ("object 2 is seen in less than 10% of the frames", SLOW)


@pytest.mark.parametrize(("trouble", "error"), [("dies at 30", Crash), ("out of memory at 47", OutOfMemory)])
def test_a_killed_attempt_and_one_without_memory_go_on_to_the_same_bytes(made, trouble, error):
    whole, _ = made("whole", objects=cell())
    with pytest.raises(error):
        made("broken", objects=cell(), trouble=trouble)
    kept = {path.name for path in (whole.path.parent / "broken-segments").iterdir()}
    assert {"000000000-12.h5", "memory-000000024.npz"} <= kept
    assert "memory-000000012.npz" not in kept or trouble.endswith("30"), "only what the next attempt needs is kept"
    again, quality = made("broken", objects=cell())
    assert again.path.read_bytes() == whole.path.read_bytes()
    assert quality.checks == ("object 2 is seen in less than 10% of the frames", SLOW)


def test_an_object_outside_the_clip_is_left_out_and_the_others_keep_their_numbers(made):
    masks, quality = made(objects=f"3 3; {cell()}")
    assert [one["id"] for one in masks.objects] == [2, 3]
    assert (masks[0] == np.where(scene()[1][0], scene()[1][0] + 1, 0)).all()
    assert quality.checks[0] == "object 1 lies outside the clip and is left out"


def test_a_row_whose_objects_all_lie_outside_is_refused(made):
    with pytest.raises(BadInput, match="shows none of the objects"):
        made(objects="3 3; 0 0 8 8")


def whole_view(mask):
    """A mask of the clip as one of the video."""
    image = np.zeros((2 * H, 4 * W), np.uint8)
    image[:, W : 3 * W] = mask.repeat(2, 0).repeat(2, 1)
    return image


def test_a_mask_of_the_first_frame_is_followed(made, tmp_path):
    np.savez(tmp_path / "first.npz", mask=whole_view(scene()[1][0] * 9))
    masks, _ = made(mask=tmp_path / "first.npz")
    assert (masks[:] == scene()[1] * 9).all()
    assert masks.objects == [{"id": 9, "given": "mask"}, {"id": 18, "given": "mask"}]


def test_masks_of_every_frame_are_taken_as_they_are(made, tmp_path):
    given = scene()[1][::-1]
    np.savez(tmp_path / "all.npz", mask=np.stack([whole_view(mask) for mask in given]))
    masks, _ = made(mask=tmp_path / "all.npz", trouble="dies at 0")  # the model is not asked
    assert (masks[:] == given).all()
    assert masks.objects == [{"id": 1, "given": "masks"}, {"id": 2, "given": "masks"}]


def test_a_mask_and_objects_in_one_row_are_refused(made, tmp_path):
    np.savez(tmp_path / "first.npz", mask=whole_view(scene()[1][0]))
    with pytest.raises(BadInput, match="objects and a mask"):
        made(objects=cell(), mask=tmp_path / "first.npz")


def test_a_row_that_names_nothing_has_masks_without_objects_which_count_as_none(made, clip):
    masks, quality = made()
    assert quality.checks == ("the row names no object: set its cell objects or mask",)
    assert not masks[:].any()
    with Inputs(Video("v", "v.mp4"), clip=clip, masks=masks).open_masks() as found:
        assert found is None


def test_followed_objects_go_before_the_rows_file(made, clip, tmp_path):
    masks, _ = made(objects=cell())
    with Inputs(Video("v", "v.mp4", mask=tmp_path / "none.npz"), clip=clip, masks=masks).open_masks() as found:
        assert (found[7] == scene()[1][7]).all()


def test_where_following_failed_an_image_of_the_first_frame_does_not_stand_for_all(clip, tmp_path):
    np.savez(tmp_path / "first.npz", mask=whole_view(scene()[1][0]))
    video = Video("v", "v.mp4", mask=tmp_path / "first.npz")
    with Inputs(video, clip=clip).open_masks() as found:
        assert (found[40] == scene()[1][0]).all()
    with Inputs(video, clip=clip, missing={"masks": "quarantined"}).open_masks() as found:
        assert found is None


def test_the_packaged_file_holds_what_was_followed(made, clip, tmp_path):
    masks, _ = made(objects=cell())
    block = blocks_of(min_tier="D", required=[], create_h5={"size": 24, "view": "full"})["create_h5"]
    backend = PACKAGING(block, root=Path())
    out = backend.writer(tmp_path / "packaged.hdf5")
    missing = dict.fromkeys(("depth", "tracks", "hands"), "left out")
    given = Inputs(Video("v", "v.mp4"), clip=clip, masks=masks, missing=missing)
    backend.process(given, out, shrink=1.0, progress=lambda done, total: None)
    import h5py

    with h5py.File(out.publish().path) as file:
        assert set(np.unique(file["masks/instance"][0])) == {0, 1, 2}
