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
from videolift.report.preview import BAR_PX, CAPTION_PX, POSTER_PX, Painter, Trails, depth_range, motion_heat, shot_name
from videolift.report.video_scene import UNITS, open_scene

WIDTH, HEIGHT, ZOOM = 192, 144, 3
"""Clips of less than 360 pixels in height are shown enlarged."""


@pytest.fixture(scope="module")
def previews(output, tmp_path_factory):
    return write_preview(output, "pick", folder=tmp_path_factory.mktemp("previews"))


@pytest.fixture
def painted(output):
    with open_scene(output, "pick") as scene:
        return Painter(scene).paint(30)


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
    assert frames[0].shape == (ZOOM * HEIGHT + CAPTION_PX, ZOOM * 2 * WIDTH + BAR_PX, 3)
    picture = cv2.imread(str(poster))[..., ::-1]
    assert picture.shape[1] == POSTER_PX
    small = [cv2.resize(frame, picture.shape[1::-1], interpolation=cv2.INTER_AREA).astype(int) for frame in frames]
    errors = [np.abs(frame - picture).mean() for frame in small]
    assert np.argmin(errors) == 34 * 2 // 3
    assert min(errors) < 6


def test_previews_go_to_their_folder_in_the_output(output, tmp_path):
    mine = without(output, tmp_path, "depth", "tracks_3d", "hand_poses")
    movie, poster = write_preview(mine, "pick")
    assert (movie, poster) == (mine / "report" / "previews" / "pick.mp4", mine / "report" / "previews" / "pick.jpg")
    assert movie.exists()
    assert poster.exists()


@pytest.mark.parametrize("folder", ["depth", "tracks_3d", "hand_poses"])
def test_any_part_may_be_missing(output, tmp_path, folder):
    mine = without(output, tmp_path, folder)
    with open_scene(mine, "pick") as scene:
        painted = Painter(scene).paint(12)
    panel = painted[: ZOOM * HEIGHT, ZOOM * WIDTH : 2 * ZOOM * WIDTH]
    hatched = (panel == draw.hatching(ZOOM * HEIGHT, ZOOM * WIDTH)).all(-1)
    assert (hatched.mean() > 0.9) == (folder == "depth")


def test_tiny_clips_are_shown_enlarged(tmp_path):
    from stages.sample import render
    from stages.sample.artifacts import write_truth_artifacts

    write_truth_artifacts(tmp_path, "tiny", render("tripod_rgbd", frames=12, width=32, height=24))
    with open_scene(tmp_path, "tiny") as scene:
        painted = Painter(scene).paint(0)
    assert painted.shape == (15 * 24 + CAPTION_PX, 2 * 15 * 32 + BAR_PX, 3)


def test_a_video_without_frames_is_refused_with_its_name(output):
    with pytest.raises(ConfigError, match=r"pock: neither a packaged file nor frames at .*videolift status"):
        write_preview(output, "pock")
    with pytest.raises(ConfigError, match="not a video id"):
        write_preview(output, "../pick")


def test_a_damaged_artifact_is_named_and_leaves_no_preview(output, tmp_path):
    mine = without(output, tmp_path)
    path = mine / "depth" / "pick.h5"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CorruptFile, match="depth/pick.h5"):
        write_preview(mine, "pick")
    assert not (mine / "report").exists()


def test_still_points_stay_pale_and_moving_ones_turn_warm(output, truth):
    with open_scene(output, "pick") as scene:
        window = scene.window(10)
        heat = motion_heat(window)
    moving = np.isin(window.label, truth.moving_ids)
    assert heat[~moving].max() < 1e-3, "the camera moves, the table does not"
    assert np.quantile(heat[moving], 0.5) > draw.STILL


def test_a_wrong_pose_makes_still_points_warm(output, truth):
    with open_scene(output, "pick") as scene:
        window = scene.window(24)
    wrong = invert_pose(truth.T_camera_world[24:32]) @ truth.T_camera_world[24]
    turned = [transform(T @ T, xyz) for T, xyz in zip(wrong, window.xyz_cam0, strict=True)]
    object.__setattr__(window, "xyz_cam0", np.array(turned))
    assert np.median(motion_heat(window)) > draw.STILL


def test_each_frame_shows_the_window_with_the_longest_past(output):
    with open_scene(output, "pick") as scene:
        assert [scene.window_of(frame) for frame in (0, 3, 7, 8, 20, 33)] == [0, 0, 0, 1, 13, 26]


def test_a_frame_that_no_window_holds_shows_no_trails(output, tmp_path, truth):
    from stages.sample.artifacts import write_truth_artifacts

    write_truth_artifacts(tmp_path, "gaps", truth, window_length=6, stride=10)
    with open_scene(tmp_path, "gaps") as scene:
        assert [scene.window_of(frame) for frame in (5, 6, 9, 10)] == [0, None, None, 1]
        picture = scene.rgb(8)
        Trails(scene).draw(picture, 8, 1)
        np.testing.assert_array_equal(picture, scene.rgb(8))


def test_the_skeleton_has_the_colour_of_its_side_where_the_keypoints_are(painted, truth):
    middle = (truth.keypoints_px[30, [0, 5, 9]].mean(0) + 0.5) * ZOOM - 0.5
    column, row = np.rint(middle).astype(int)
    near = painted[row - 60 : row + 60, column - 60 : column + 60].astype(int)
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
    with open_scene(output, "pick") as scene:
        near, far = depth_range(scene)
    assert truth.depth_m.min() * 0.99 <= near < np.median(truth.depth_m) < far <= truth.depth_m.max() * 1.01


def test_a_clip_without_any_valid_depth_is_all_hatched(output, tmp_path):
    mine = without(output, tmp_path, "depth", "tracks_3d")
    writer = DepthWriter(Layout(mine).artifact("depth", "pick"))
    writer.append_frames(np.zeros((34, HEIGHT, WIDTH)), np.tile(np.eye(4), (34, 1, 1)), np.ones(34, bool))
    writer.put(K=np.eye(3))
    writer.declare(backend="plane", tier="D", scale="assumed", pose="static", intrinsics="assumed")
    writer.publish()
    with open_scene(mine, "pick") as scene:
        assert depth_range(scene) is None
        painted = Painter(scene).paint(0)
    panel = painted[40 : ZOOM * HEIGHT, ZOOM * WIDTH : 2 * ZOOM * WIDTH]
    np.testing.assert_array_equal(panel, draw.hatching(ZOOM * HEIGHT, ZOOM * WIDTH)[40:])


def test_every_scale_has_a_unit_and_the_bar_shows_it():
    assert set(UNITS) == {"metric", "hand", "assumed", "arbitrary"}
    bars = [draw.scale_bar(HEIGHT, BAR_PX, (0.5, 2.0), text) for text in ("m", "")]
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


def test_a_packaged_video_is_drawn_from_its_packaged_file_and_its_trails_lie_where_the_tracks_are(run_output, truth):
    with open_scene(run_output, "pick") as scene:
        assert scene.size_px == (96, 96)
        window, frame = scene.window(10), 17
        step = frame - window.start
        xyz, seen = window.xyz_cam0[step], window.visible[step]
        T = truth.T_camera_world[frame] @ invert_pose(truth.T_camera_world[window.start])
        z = transform(T, xyz[seen].astype(np.float64))[:, 2]
        column, row = np.rint(window.uv_px[step, seen]).astype(int).T
        inside = (column >= 0) & (column < 96) & (row >= 0) & (row < 96)
        there = scene.depth(frame)[row[inside], column[inside]]
        assert np.median(np.abs(there / z[inside] - 1)) < 0.02


def test_the_worst_seconds_are_framed_and_named(run_output):
    with open_scene(run_output, "pick") as scene:
        scene.quality = {"depth_residual": np.where(np.arange(34) // 10 == 1, 0.1, 0.001).astype(np.float32)}
        painter = Painter(scene)
        framed = [bool((painter.paint(frame)[1, 5] == draw.ALARM).all()) for frame in (5, 15, 25)]
    assert framed == [False, True, False]


def test_points_out_of_sight_are_rings_and_those_in_sight_are_filled():
    for visible, filled in ((True, True), (False, False)):
        picture = np.zeros((41, 41, 3), np.uint8)
        draw.draw_trails(picture, np.array([[[20.0, 20.0]]]), np.array([[visible]]), np.array([1.0]))
        assert picture.any()
        assert picture[20, 20].any() == filled


def test_the_strip_is_red_beyond_the_limit_and_grey_where_nothing_was_measured():
    excess = np.array([0.1] * 10 + [2.0] * 10 + [np.nan] * 10)
    strip = draw.strip(excess, 30)
    assert (strip[:, 10:20] == draw.ALARM).all()
    assert (strip[:, 20:] == draw.HATCH).all()
    assert (draw.strip(excess, 3)[:, 1] == draw.ALARM).all(), "also where many frames share a pixel"


def test_cuts_break_the_strip_and_the_caption_names_the_shot(output):
    with open_scene(output, "pick") as scene:
        whole = Painter(scene)
        assert shot_name(scene.shot, 0) == ""
        scene.shot = np.repeat([0, -1, 1], [12, 2, 20]).astype(np.int32)
        cut = Painter(scene)
        assert [shot_name(scene.shot, frame) for frame in (0, 12, 33)] == ["shot 1 of 2   ", "between shots   ", "shot 2 of 2   "]
    broken = (cut._strip == draw.PAPER).all((0, 2))
    assert broken.sum() == 2
    assert not (whole._strip == draw.PAPER).all((0, 2)).any()


@pytest.mark.parametrize("text", ["valid_depth 0.074, limit 0.3", "wrist_depth_gap 0.12 m, limit 0.05"])
def test_outlined_letters_lie_on_their_outlines(text):
    """An outline by a thicker pen was a wider font: it ended far to the right of its letters, and neither could be read."""
    picture = np.full((40, 400, 3), 255, np.uint8)
    draw.write(picture, text, (10, 25), colour=(255, 0, 0), outlined=True)
    red = (picture[..., 0] > 128) & (picture[..., 1] < 100)
    dark = picture.max(-1) < 128
    last_red, last_dark = (int(np.flatnonzero(ink.any(0))[-1]) for ink in (red, dark))
    assert abs(last_red - last_dark) <= 3
