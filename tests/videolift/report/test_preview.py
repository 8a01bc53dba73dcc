"""A preview shows what the artifacts say, and still works where some of them are missing."""

import shutil

import av
import cv2
import numpy as np
import pytest

from videolift.artifacts import DepthWriter
from videolift.errors import ConfigError, CorruptFile
from videolift.geometry import invert_pose, transform
from videolift.paths import Layout
from videolift.report import draw, write_preview
from videolift.report.findings import Findings
from videolift.report.preview import BAR_PX, CAPTION_PX, Painter, Trails, depth_range, motion_heat

WIDTH, HEIGHT = 192, 144


@pytest.fixture(scope="module")
def previews(output, tmp_path_factory):
    return write_preview(output, "pick", folder=tmp_path_factory.mktemp("previews"))


@pytest.fixture
def painted(output):
    with Findings.open(output, "pick") as found:
        return Painter(found).paint(30)


def without(output, tmp_path, *folders):
    for folder in ("frames", "depth", "tracks_3d", "hand_poses"):
        if folder not in folders:
            shutil.copytree(output / folder, tmp_path / folder)
    return tmp_path


def test_the_movie_has_every_frame_at_the_clips_rate_and_the_poster_is_one_of_them(previews, truth):
    movie, poster = previews
    with av.open(str(movie)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 10)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == len(truth.rgb)
    assert frames[0].shape == (HEIGHT + CAPTION_PX, 2 * WIDTH + BAR_PX, 3)
    picture = cv2.imread(str(poster))[..., ::-1]
    errors = [np.abs(frame.astype(int) - picture).mean() for frame in frames]
    assert np.argmin(errors) == 34 * 2 // 3
    assert min(errors) < 6


def test_previews_go_to_their_folder_in_the_output(output, tmp_path):
    mine = without(output, tmp_path, "depth", "tracks_3d", "hand_poses")
    movie, poster = write_preview(mine, "pick")
    assert (movie, poster) == (mine / "previews" / "pick.mp4", mine / "previews" / "pick.png")
    assert movie.exists()
    assert poster.exists()


@pytest.mark.parametrize("folder", ["depth", "tracks_3d", "hand_poses"])
def test_any_part_may_be_missing(output, tmp_path, folder):
    mine = without(output, tmp_path, folder)
    with Findings.open(mine, "pick") as found:
        painted = Painter(found).paint(12)
    panel = painted[:HEIGHT, WIDTH : 2 * WIDTH]
    hatched = (panel == draw.hatching(HEIGHT, WIDTH)).all(-1)
    assert (hatched.mean() > 0.9) == (folder == "depth")


def test_tiny_clips_are_shown_enlarged(tmp_path):
    from stages.sample import render
    from stages.sample.artifacts import write_truth_artifacts

    write_truth_artifacts(tmp_path, "tiny", render("tripod_rgbd", frames=12, width=32, height=24))
    with Findings.open(tmp_path, "tiny") as found:
        painted = Painter(found).paint(0)
    assert painted.shape == (5 * 24 + CAPTION_PX, 2 * 5 * 32 + BAR_PX, 3)


def test_a_video_without_frames_is_refused_with_its_name(output):
    with pytest.raises(ConfigError, match=r"pock: no frames at .*videolift status"):
        write_preview(output, "pock")
    with pytest.raises(ConfigError, match="not a video id"):
        write_preview(output, "../pick")


def test_a_damaged_artifact_is_named_and_leaves_no_preview(output, tmp_path):
    mine = without(output, tmp_path)
    path = mine / "depth" / "pick.h5"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CorruptFile, match="depth/pick.h5"):
        write_preview(mine, "pick")
    assert not (mine / "previews").exists()


def test_still_points_stay_pale_and_moving_ones_turn_warm(output, truth):
    with Findings.open(output, "pick") as found:
        window = found.tracks[10]
        heat = motion_heat(window)
    moving = np.isin(window.label, truth.moving_ids)
    assert heat[~moving].max() < 1e-3, "the camera moves, the table does not"
    assert np.quantile(heat[moving], 0.5) > draw.STILL


def test_a_wrong_pose_makes_still_points_warm(output, truth):
    with Findings.open(output, "pick") as found:
        window = found.tracks[24]
    wrong = invert_pose(truth.T_camera_world[24:32]) @ truth.T_camera_world[24]
    turned = [transform(T @ T, xyz) for T, xyz in zip(wrong, window.xyz_cam0, strict=True)]
    object.__setattr__(window, "xyz_cam0", np.array(turned))
    assert np.median(motion_heat(window)) > draw.STILL


def test_each_frame_shows_the_window_with_the_longest_past(output):
    with Findings.open(output, "pick") as found:
        trails = Trails(found.tracks)
        assert [trails.number(frame) for frame in (0, 3, 7, 8, 20, 33)] == [0, 0, 0, 1, 13, 26]


def test_a_frame_that_no_window_holds_shows_no_trails(output, tmp_path, truth):
    from stages.sample.artifacts import write_truth_artifacts

    write_truth_artifacts(tmp_path, "gaps", truth, window_length=6, stride=10)
    with Findings.open(tmp_path, "gaps") as found:
        trails = Trails(found.tracks)
        assert [trails.number(frame) for frame in (5, 6, 9, 10)] == [0, None, None, 1]
        picture = found.clip[8]
        trails.draw(picture, 8)
        np.testing.assert_array_equal(picture, found.clip[8])


def test_the_skeleton_has_the_colour_of_its_side_where_the_keypoints_are(painted, truth):
    middle = truth.keypoints_px[30, [0, 5, 9]].mean(0)
    column, row = np.rint(middle).astype(int)
    near = painted[row - 25 : row + 25, column - 25 : column + 25].astype(int)
    right, left = ((np.abs(near - colour).sum(-1) < 60).sum() for colour in (draw.RIGHT, draw.LEFT))
    assert right > 40
    assert left < 5


def test_depth_colours_run_from_near_warm_to_far_cold_and_holes_are_hatched():
    z = np.array([[0.5, 1.0, 2.0, 0.0]] * 12, np.float32).repeat(6, 1)
    picture = draw.depth_picture(z, (0.5, 2.0)).astype(int)
    red, blue = picture[..., 0], picture[..., 2]
    assert (red[:, :6] > blue[:, :6] + 80).all()
    assert (red[:, 12:18] <= blue[:, 12:18]).all()
    np.testing.assert_array_equal(picture[:, 18:], draw.hatching(12, 24)[:, 18:])


def test_the_scale_bar_spans_the_valid_depth(output, truth):
    with Findings.open(output, "pick") as found:
        near, far = depth_range(found)
    assert truth.depth_m.min() * 0.99 <= near < np.median(truth.depth_m) < far <= truth.depth_m.max() * 1.01


def test_a_clip_without_any_valid_depth_is_all_hatched(output, tmp_path):
    mine = without(output, tmp_path, "depth", "tracks_3d")
    writer = DepthWriter(Layout(mine).artifact("depth", "pick"))
    writer.append_frames(np.zeros((34, HEIGHT, WIDTH)), np.tile(np.eye(4), (34, 1, 1)), np.ones(34, bool))
    writer.put(K=np.eye(3))
    writer.declare(backend="plane", tier="D", scale="assumed", pose="static", intrinsics="assumed")
    writer.publish()
    with Findings.open(mine, "pick") as found:
        assert depth_range(found) is None
        painted = Painter(found).paint(0)
    panel = painted[40:HEIGHT, WIDTH : 2 * WIDTH]
    np.testing.assert_array_equal(panel, draw.hatching(HEIGHT, WIDTH)[40:])


@pytest.mark.parametrize(("scale", "unit"), [("metric", "m"), ("assumed", "m assumed"), ("arbitrary", "arbitrary units")])
def test_the_unit_says_what_the_scale_is_worth(scale, unit):
    from videolift.report.findings import UNITS

    assert UNITS[scale] == unit
    bars = [draw.scale_bar(HEIGHT, BAR_PX, (0.5, 2.0), text) for text in (unit, "")]
    assert (bars[0][:30] != bars[1][:30]).any()


def test_nan_keypoints_and_far_away_ones_do_not_stop_the_drawing():
    picture = np.zeros((50, 60, 3), np.uint8)
    keypoints = np.full((21, 2), np.nan)
    draw.draw_skeleton(picture, keypoints, draw.LEFT)
    assert not picture.any()
    keypoints[0], keypoints[5] = [1e9, 20], [30, 20]
    draw.draw_skeleton(picture, keypoints, draw.LEFT)
    assert picture.any()
    behind = np.eye(4)
    behind[2, 3] = -1
    before = picture.copy()
    draw.draw_axes(picture, behind, np.array([[50, 0, 30], [0, 50, 25], [0, 0, 1.0]]))
    np.testing.assert_array_equal(picture, before)


def test_interpolated_hands_are_fainter():
    keypoints = np.random.default_rng(0).uniform(10, 50, (21, 2))
    solid, faint = np.zeros((60, 60, 3), np.uint8), np.zeros((60, 60, 3), np.uint8)
    draw.draw_skeleton(solid, keypoints, draw.RIGHT)
    draw.draw_skeleton(faint, keypoints, draw.RIGHT, faint=True)
    assert 0.3 < faint.mean() / solid.mean() < 0.6
