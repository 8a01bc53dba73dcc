"""The user's masks: every kind of file, the clip's framing and times, and files that attack."""

import io
import os
import zipfile
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from videolift.artifacts import Clip, ClipWriter
from videolift.errors import BadInput
from videolift.inputs.framing import Framing
from videolift.inputs.mask_files import open_mask_file
from videolift.inputs.masks import open_masks

IDS = (np.arange(6 * 8 * 12).reshape(6, 8, 12) % 251).astype(np.uint8)
"""Six masks of 12 x 8 pixels in which every value of interest occurs."""


@pytest.fixture
def make_clip(tmp_path):
    def make(*, frames=6, fps=10.0, source_fps=10.0, source_px=(12, 8), clip_px=(12, 8), vfr=False, first_pts_s=0.0, fit="auto"):
        path = tmp_path / "clip.h5"
        writer = ClipWriter(path)
        pts = first_pts_s + np.arange(frames) / fps
        writer.append_frames(np.zeros((frames, clip_px[1], clip_px[0], 3), np.uint8), pts)
        framing = Framing.fit(source_px, clip_px, fit).to_attrs()
        source = {"fps_measured": source_fps, "vfr": vfr, "first_pts_s": first_pts_s, "start_s": None, "end_s": None}
        writer.describe(fps=fps, framing=framing, source=source)
        writer.publish()
        return Clip(path)

    return make


def npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def folder(path, images, name="{}.png"):
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / name.format(i))
    return path


def movie(path, images, *, codec="ffv1", pix_fmt="gray", rate=10):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = images.shape[2], images.shape[1], pix_fmt
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray").reformat(format=pix_fmt)))
        container.mux(stream.encode())
    return path


def read_all(path, clip):
    with open_masks(path, clip) as masks:
        return np.stack([masks[k] for k in range(len(masks))])


@pytest.mark.parametrize("kind", ["npz", "folder", "mkv", "avi", "bool"])
def test_every_kind_of_file_gives_the_same_ids(tmp_path, make_clip, kind):
    ids = IDS
    if kind == "npz":
        path = npz(tmp_path / "m.npz", masks=ids)
    elif kind == "bool":
        ids = IDS > 100
        path = npz(tmp_path / "m.npz", anything=ids)
    elif kind == "folder":
        path = folder(tmp_path / "m", ids)
    else:
        path = movie(tmp_path / f"m.{kind}", ids)
    assert np.array_equal(read_all(path, make_clip()), ids.astype(np.uint8))


def test_images_are_taken_in_the_order_of_their_numbers(tmp_path, make_clip):
    images = np.stack([np.full((8, 12), i, np.uint8) for i in range(12)])
    path = folder(tmp_path / "m", images, "frame_{}.png")
    assert [int(mask[0, 0]) for mask in read_all(path, make_clip(frames=12))] == list(range(12))


def test_a_palette_image_gives_its_indices_not_its_colours(tmp_path, make_clip):
    (tmp_path / "m").mkdir()
    image = Image.frombytes("P", (12, 8), IDS[0].tobytes())
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    image.save(tmp_path / "m" / "0.png")
    assert np.array_equal(read_all(tmp_path / "m", make_clip())[3], IDS[0])


@pytest.mark.parametrize("image", [np.repeat(IDS[0][..., None], 3, 2), IDS[0].astype(np.uint16)])
def test_grey_saved_as_colour_or_as_16_bits_is_still_ids(tmp_path, make_clip, image):
    path = folder(tmp_path / "m", [image])
    assert np.array_equal(read_all(path, make_clip())[0], IDS[0])


def test_one_mask_stands_for_the_whole_clip(tmp_path, make_clip):
    masks = read_all(npz(tmp_path / "m.npz", masks=IDS[2]), make_clip())
    assert len(masks) == 6
    assert (masks == IDS[2]).all()


def test_masks_can_be_read_in_any_order(tmp_path, make_clip):
    for path in (npz(tmp_path / "m.npz", masks=IDS), movie(tmp_path / "m.mkv", IDS)):
        with open_masks(path, make_clip()) as masks:
            for k in (4, 1, 1, 5, 0, 3):
                assert np.array_equal(masks[k], IDS[k]), (path, k)


def test_masks_of_every_source_frame_are_taken_at_the_clips_times(tmp_path, make_clip):
    images = np.stack([np.full((8, 12), i, np.uint8) for i in range(18)])
    clip = make_clip(source_fps=30.0, first_pts_s=0.5)
    for path in (npz(tmp_path / "m.npz", masks=images), movie(tmp_path / "m.mkv", images, rate=30)):
        assert [int(mask[0, 0]) for mask in read_all(path, clip)] == [0, 3, 6, 9, 12, 15]


@pytest.mark.parametrize(("count", "vfr"), [(5, False), (40, False), (18, True)])
def test_a_number_of_masks_that_fits_nothing_is_refused(tmp_path, make_clip, count, vfr):
    path = npz(tmp_path / "m.npz", masks=np.zeros((count, 8, 12), np.uint8))
    with pytest.raises(BadInput, match=f"there are {count} masks, 6 frames in the clip"):
        read_all(path, make_clip(source_fps=30.0, vfr=vfr))


def test_masks_are_framed_like_the_clip_by_nearest_pixels(tmp_path, make_clip):
    # 24 x 8 shown as 8 x 8: twice as high as the mask file's 12 x 4, the middle third of it kept
    mask = np.repeat(np.arange(12, dtype=np.uint8)[None], 4, 0)
    clip = make_clip(source_px=(24, 8), clip_px=(8, 8))
    framed = read_all(npz(tmp_path / "m.npz", masks=mask), clip)[0]
    assert framed[0].tolist() == [4, 4, 5, 5, 6, 6, 7, 7]


def test_masks_of_another_shape_than_the_video_are_refused(tmp_path, make_clip):
    with pytest.raises(BadInput, match="12 x 8 px, the upright video 8 x 12: not the same view"):
        read_all(npz(tmp_path / "m.npz", masks=IDS), make_clip(source_px=(8, 12), clip_px=(8, 12)))


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (IDS.astype(np.int32), "int32"),
        (IDS.astype(float), "float64"),
        (np.array([{"a": 1}], dtype=object), "object|pickle"),
        (np.asfortranarray(IDS), "column order"),
        (IDS[0, 0], "shape"),
        (IDS[None], "shape"),
        (IDS[:0], "shape"),
    ],
)
def test_an_array_that_is_no_mask_is_refused_unread(tmp_path, array, says):
    np.savez(tmp_path / "m.npz", masks=array)
    with pytest.raises(BadInput, match=says):
        open_mask_file(tmp_path / "m.npz")


def forged(path, shape, data=b"\0" * 96, descr="|u1"):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("masks.npy", header.getvalue() + data)
    return path


@pytest.mark.parametrize("shape", [(6, 8, 13), (1, 1 << 20, 1 << 20), (10**9, 8, 12)])
def test_a_header_that_lies_about_its_size_allocates_nothing(tmp_path, shape):
    with pytest.raises(BadInput, match="claims shape"):
        open_mask_file(forged(tmp_path / "m.npz", shape))


def test_damage_is_a_bad_input_of_the_user_not_a_crash(tmp_path, make_clip):
    good = npz(tmp_path / "good.npz", masks=np.random.default_rng(0).integers(0, 9, (6, 80, 120)).astype(np.uint8)).read_bytes()
    (tmp_path / "cut.npz").write_bytes(good[: len(good) // 2])
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(flipped)
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("not a mask")
    movie(tmp_path / "whole.mkv", IDS)
    (tmp_path / "cut.mkv").write_bytes((tmp_path / "whole.mkv").read_bytes()[:300])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    for name in ("cut.npz", "flipped.npz", "empty.npz", "text.npz", "cut.mkv", "a", "missing.npz"):
        with pytest.raises(BadInput) as error:
            read_all(tmp_path / name, make_clip(source_px=(120, 80), clip_px=(120, 80)))
        assert error.value.code == "mask", name
        assert "PNG" in error.value.remedy or "mask" in error.value.remedy


def test_lossy_masks_are_refused(tmp_path):
    (tmp_path / "m").mkdir()
    Image.fromarray(IDS[0]).save(tmp_path / "m" / "0.jpg")
    with pytest.raises(BadInput, match=r"without .*it holds .jpg"):
        open_mask_file(tmp_path / "m")
    pixels = np.zeros((6, 64, 96), np.uint8)
    with pytest.raises(BadInput, match="not lossless"):
        open_mask_file(movie(tmp_path / "m.mp4", pixels, codec="libx264", pix_fmt="yuv420p"))
    with pytest.raises(BadInput, match="not lossless"):
        open_mask_file(movie(tmp_path / "m.mkv", pixels, pix_fmt="yuv420p"))


def test_coloured_masks_are_refused(tmp_path, make_clip):
    path = folder(tmp_path / "m", [np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.uint8)])
    with pytest.raises(BadInput, match="colours"):
        read_all(path, make_clip())


def test_ids_above_255_are_refused(tmp_path, make_clip):
    path = folder(tmp_path / "m", [np.full((8, 12), 700, np.uint16)])
    with pytest.raises(BadInput, match="700; ids are 0 to 255"):
        read_all(path, make_clip())


def test_a_pipe_in_place_of_a_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "m.npz")
    with pytest.raises(BadInput, match="not a regular file"):
        open_mask_file(tmp_path / "m.npz")


def test_an_archive_of_several_arrays_must_name_the_mask(tmp_path, make_clip):
    other = np.zeros((6, 8, 12), np.float32)
    assert np.array_equal(read_all(npz(tmp_path / "m.npz", masks=IDS, depth=other), make_clip()), IDS)
    with pytest.raises(BadInput, match="none of them named mask"):
        open_mask_file(npz(tmp_path / "n.npz", labels=IDS, depth=other))
