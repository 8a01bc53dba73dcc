"""The sample as files: what a user finds in the folder, and that it is either complete or made again."""

import shutil

import av
import numpy as np
import pytest

from stages.sample import CLIPS, files, render, sample_rows, write_sample
from stages.sample.__main__ import main
from videolift.inputs.table import read_table

FRAMES = 12
SIZE = {"width": 192, "height": 144}


def render_small(name, *, frames):
    wide = CLIPS[name].width > CLIPS[name].height
    return render(name, frames=frames, width=SIZE["width" if wide else "height"], height=SIZE["height" if wide else "width"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "FRAMES", FRAMES)
        patch.setattr(files, "render", render_small)
        path = tmp_path_factory.mktemp("sample")
        write_sample(path)
    return path


def test_the_table_lists_what_the_catalog_expects_before_rendering(folder):
    assert read_table(folder / "videos.csv", is_sample=True) == sample_rows(folder)
    header, *rows = (folder / "videos.csv").read_text().splitlines()
    assert header == "video,path,depth,text,version"
    assert [row.split(",")[:3] for row in rows] == [[n, f"{n}.mp4", f"{n}.npz" if c.rgbd else ""] for n, c in CLIPS.items()]


def test_depth_files_open_as_the_rgbd_backend_reads_them(folder):
    for name, spec in CLIPS.items():
        assert (folder / f"{name}.npz").exists() == spec.rgbd
        if spec.rgbd:
            truth = render_small(name, frames=FRAMES)
            with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
                assert set(arrays) == {"depths", "intrinsics", "extrinsics"}
                np.testing.assert_allclose(arrays["depths"], truth.depth_m, rtol=6e-4)
                np.testing.assert_array_equal(arrays["intrinsics"], np.repeat(truth.K[None], FRAMES, 0))
                np.testing.assert_array_equal(arrays["extrinsics"], truth.T_camera_world)


def test_truth_files_hold_tracks_joints_and_poses(folder):
    truth = render_small("handheld_rgbd", frames=FRAMES)
    with np.load(folder / "truth" / "handheld_rgbd.npz", allow_pickle=False) as arrays:
        assert str(arrays["side"]) == "left"
        np.testing.assert_array_equal(arrays["T_world_wrist"], truth.T_world_wrist)
        np.testing.assert_array_equal(arrays["instance"], truth.instance)
        start, uv = int(arrays["track_start"][1]), arrays["track_uv_px"][1, 0]
        expected = truth.tracks(start, np.rint(uv), 10)
        np.testing.assert_allclose(arrays["track_xyz_cam0"][1], expected[0], atol=1e-6)
        np.testing.assert_array_equal(arrays["track_visible"][1], expected[2])


def test_videos_decode_to_nearly_the_rendered_frames_and_say_their_colours(folder):
    truth = render_small("tripod_rgbd", frames=FRAMES)
    with av.open(str(folder / "tripod_rgbd.mp4")) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        assert (codec.name, codec.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 10)
        assert codec.colorspace == codec.color_primaries == codec.color_trc == 1, "BT.709"
        decoded = list(container.decode(stream))
    assert [float(frame.pts * frame.time_base) for frame in decoded] == pytest.approx(truth.pts_seconds)
    error = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded]).astype(float) - truth.rgb
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 33
    assert np.abs(error.mean((0, 1, 2))).max() < 2.5


def test_a_complete_folder_is_left_alone_and_an_incomplete_one_made_again(folder, tmp_path, monkeypatch):
    mine = tmp_path / "sample"
    shutil.copytree(folder, mine)
    rendered = []
    monkeypatch.setattr(files, "FRAMES", FRAMES)
    monkeypatch.setattr(files, "render", lambda name, *, frames: rendered.append(name) or render_small(name, frames=frames))
    write_sample(mine)
    assert rendered == []
    (mine / "orbit.mp4").unlink()
    write_sample(mine)
    assert rendered == list(CLIPS)
    for path in folder.rglob("*.*"):
        assert (mine / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("damage", ["no table", "other version"])
def test_a_folder_of_another_version_or_without_its_table_is_not_complete(folder, tmp_path, damage):
    mine = tmp_path / "sample"
    shutil.copytree(folder, mine)
    assert files.is_complete(mine)
    table = mine / "videos.csv"
    if damage == "no table":
        table.unlink()
    else:
        table.write_text(table.read_text().replace(f",{files.VERSION}\n", ",0\n"))
    assert not files.is_complete(mine)


def test_a_killed_writer_leaves_no_table(folder, tmp_path, monkeypatch):
    mine = tmp_path / "sample"
    shutil.copytree(folder, mine)
    (mine / "orbit.mp4").unlink()

    def killed(name, *, frames):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "render", killed)
    with pytest.raises(KeyboardInterrupt):
        write_sample(mine)
    assert not (mine / "videos.csv").exists()


def test_the_command_wants_one_folder(capsys, folder):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
    assert main([str(folder)]) == 0
