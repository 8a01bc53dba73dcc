"""The mediapipe backend: our side with canned detections of true keypoints, and the detector itself."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from stages.backend import Inputs
from stages.hands import mediapipe
from stages.hands.clip_camera import clip_camera
from stages.hands.mediapipe import BACKEND, detections_of, regions
from stages.hands.palm import SEEN_SIZE, Palm
from stages.models.environments import build
from stages.registry import ROOT
from stages.sample.artifacts import write_truth_artifacts
from stages.settings import stage_block
from tests.blocks import blocks_of
from videolift.artifacts import METHODS, PALM_JOINTS, Clip, ClipWriter, Depth, DepthWriter, Hands
from videolift.errors import BackendUnavailable, CorruptFile
from videolift.geometry import is_rotation, project, rotation_angle, transform
from videolift.inputs.catalog import Video
from videolift.pool import Device

CPU = Device("cpu", "cpu", "CPU", 8 << 30)
LEFT, RIGHT = 0, 1


class TrueKeypoints:
    """In place of MediaPipe's process: finds the true hand of a clip, frame by frame as it is shown, and sees its palm as MediaPipe
    sees real ones, or in full as it sees rendered ones. In a second look it finds nothing."""

    def __init__(self, truth, unseen=(), in_full=False):
        self.truth, self.unseen, self.shown = truth, set(unseen), []
        self.keypoints_px = truth.keypoints_px.copy()
        palm_m = Palm.of(truth.side).points_m(1 / SEEN_SIZE if in_full else 1.0)
        self.keypoints_px[:, list(PALM_JOINTS)] = project(transform(truth.T_camera_wrist, palm_m), truth.K)

    def load(self, meta):
        return {}

    def close(self):
        pass

    def call(self, meta, arrays, on_progress):
        found = []
        for i, image in enumerate(arrays["rgb"]):
            if image.shape != self.truth.rgb[0].shape:
                continue
            k = next(k for k in range(len(self.truth.rgb)) if np.array_equal(self.truth.rgb[k], image))
            self.shown.append(k)
            if k not in self.unseen:
                found.append((i, k))
            on_progress(i + 1, len(arrays["rgb"]))
        right = float(self.truth.side == "right")
        return {}, {
            "frame": np.array([i for i, _ in found], np.int32),
            "region": np.zeros(len(found), np.int32),
            "keypoints_px": np.array([self.keypoints_px[k] for _, k in found], np.float32).reshape(-1, 21, 2),
            "score": np.full(len(found), 0.9, np.float32),
            "right": np.full(len(found), right, np.float32),
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_truth):
    folder = tmp_path_factory.mktemp("small")
    write_truth_artifacts(folder, "clip", small_truth, grid_px=96)
    return folder


@pytest.fixture
def run(tmp_path, files, monkeypatch):
    def process(model, *, name="hands", segments=None, progress=lambda done, total: None, settings=None, folder=files, **inputs):
        backend = BACKEND(stage_block("hands", backend="mediapipe", **(settings or {})), root=ROOT)
        backend._process = model
        writer = backend.writer(tmp_path / f"{name}.h5", segments=segments)
        with Clip(folder / "frames/clip.h5") as clip, Depth(folder / "depth/clip.h5") as depth:
            row = Video("clip", "clip.mp4")
            try:
                given = Inputs(row, **({"clip": clip, "depth": depth} | inputs))
                quality = backend.process(given, writer, shrink=1.0, progress=progress)
                writer.publish()
            finally:
                writer.discard()
                backend.close()
        return Hands(tmp_path / f"{name}.h5"), quality

    return process


def depth_file(path, truth, **declared):
    writer = DepthWriter(path)
    writer.append_frames(truth.depth_m, truth.T_camera_world, np.ones(len(truth.rgb), bool))
    writer.put(K=truth.K)
    writer.declare(**({"backend": "truth", "tier": "A", "scale": "metric", "pose": "given", "intrinsics": "given"} | declared))
    writer.publish()
    return Depth(path)


def off(hands, truth, side):
    valid = hands.valid[:, side]
    turned = rotation_angle(hands.T_camera_wrist[valid, side, :3, :3], truth.T_camera_wrist[valid, :3, :3])
    moved = np.linalg.norm(hands.T_camera_wrist[valid, side, :3, 3] - truth.T_camera_wrist[valid, :3, 3], axis=-1)
    return np.degrees(np.median(turned)), np.median(moved)


def test_a_left_hand_on_metric_depth_is_the_left_hand_of_the_artifact(run, small_truth):
    hands, quality = run(TrueKeypoints(small_truth, in_full=True))
    with hands:
        assert small_truth.side == "left"
        assert hands.valid[:, LEFT].all()
        assert not hands.valid[:, RIGHT].any()
        degrees, metres = off(hands, small_truth, LEFT)
        assert degrees < 6
        assert metres < 0.03
        assert hands.attrs["wrist_method"] == {"left": "depth", "right": None}
        assert hands.attrs["K_source"] == "given"
        assert (hands.method[:, LEFT] == METHODS.index("depth")).mean() > 0.8
        assert not hands.method[:, RIGHT].any()
        wrist_px = project(hands.T_camera_wrist[:, LEFT, :3, 3], small_truth.K)
        assert np.median(np.linalg.norm(wrist_px - hands.keypoints_px[:, LEFT, 0], axis=-1)) < 2.0
        assert (hands.attrs["has_mano"], hands.attrs["has_joints"]) == (False, True)
        assert quality.figures["left_valid_share"] == 1.0
        joints = hands.joints_camera[:, LEFT]
        error = np.linalg.norm(joints - small_truth.joints_camera, axis=-1)
        assert np.isfinite(joints[:, 0]).mean() > 0.8
        assert np.nanmedian(error) < 0.02


def test_mano_is_not_measured_and_says_so(run, small_truth):
    with run(TrueKeypoints(small_truth))[0] as hands:
        assert np.isnan(hands.mano_pose).all()
        assert np.isnan(hands.betas).all()


def test_frames_in_between_are_filled_and_flagged(run, small_truth):
    with run(TrueKeypoints(small_truth, unseen=[4, 5, 6]))[0] as hands:
        assert np.flatnonzero(hands.interpolated[:, LEFT]).tolist() == [4, 5, 6]
        assert is_rotation(hands.T_camera_wrist[[4, 5, 6], LEFT, :3, :3]).all()
        assert hands.valid[:, LEFT].all()


def test_without_hands_in_view_everything_is_invalid_and_that_is_a_result(run, small_truth):
    hands, quality = run(TrueKeypoints(small_truth, unseen=range(24)))
    with hands:
        assert len(hands) == 24
        assert not hands.valid.any()
        for field in (hands.score, hands.keypoints_px, hands.T_camera_wrist, hands.joints_camera):
            assert np.isnan(field).all()
    assert "no hand in view" in quality.checks


def test_a_hand_seen_in_two_frames_is_taken_for_chance(run, small_truth):
    hands, quality = run(TrueKeypoints(small_truth, unseen=set(range(24)) - {7, 8}))
    with hands:
        assert not hands.valid.any()
        assert np.isnan(hands.keypoints_px).all()
    assert "no hand in view" in quality.checks


@pytest.mark.parametrize("scale", ["arbitrary", "assumed"])
def test_depth_in_unknown_units_is_not_compared_with_metres(run, tmp_path, small_truth, scale):
    with depth_file(tmp_path / "depth.h5", small_truth, scale=scale, tier="C") as depth:
        hands, _ = run(TrueKeypoints(small_truth), depth=depth)
    with hands:
        assert hands.attrs["wrist_method"]["left"] == "palm_pnp"
        assert hands.attrs["has_joints"] is False
        assert np.isnan(hands.joints_camera).all()
        degrees, metres = off(hands, small_truth, LEFT)
        assert degrees < 8
        assert metres < 0.04


def test_a_clip_without_depth_gets_hands_from_an_assumed_camera(run, small_truth):
    hands, quality = run(TrueKeypoints(small_truth), depth=None)
    with hands:
        assert hands.attrs["K_source"] == "assumed"
        assert hands.attrs["K"][0][0] == pytest.approx(0.85 * 192)
        assert hands.valid[:, LEFT].all()
        assert np.isfinite(hands.keypoints_px[:, LEFT]).all()
    assert any("assumed" in check for check in quality.checks)


def test_a_calibration_is_taken_where_there_is_no_depth(tmp_path):
    writer = ClipWriter(tmp_path / "clip.h5")
    writer.append_frames(np.zeros((2, 8, 12, 3), np.uint8), [0.0, 0.1])
    writer.describe(fps=10.0, K_given=[[20.0, 0, 5.5], [0, 20.0, 3.5], [0, 0, 1]])
    writer.publish()
    with Clip(tmp_path / "clip.h5") as clip:
        camera = clip_camera(clip, None)
    assert (camera.intrinsics, camera.K[0, 0], camera.depth_m) == ("given", 20.0, None)


def test_depth_of_another_length_is_refused(tmp_path, files):
    writer = ClipWriter(tmp_path / "clip.h5")
    writer.append_frames(np.zeros((5, 144, 192, 3), np.uint8), np.arange(5) / 10)
    writer.describe(fps=10.0)
    writer.publish()
    with (
        Clip(tmp_path / "clip.h5") as clip,
        Depth(files / "depth/clip.h5") as depth,
        pytest.raises(CorruptFile, match="24 frames, the clip 5"),
    ):
        clip_camera(clip, depth)


def test_a_killed_video_is_not_looked_at_again_where_a_segment_was_saved(run, tmp_path, small_truth):
    cut, again = TrueKeypoints(small_truth), TrueKeypoints(small_truth)

    def stop(done, total):
        if done > 20:
            raise KeyboardInterrupt

    settings = {"segment_s": 1.6}
    with pytest.raises(KeyboardInterrupt):
        run(cut, segments=tmp_path / "segments", progress=stop, settings=settings)
    with run(again, segments=tmp_path / "segments", settings=settings)[0] as resumed:
        whole, _ = run(TrueKeypoints(small_truth), name="whole")
        assert again.shown == list(range(16, 24))
        assert np.array_equal(resumed.T_camera_wrist, whole.T_camera_wrist, equal_nan=True)
        whole.close()


def test_progress_counts_the_frames_of_the_clip(run, small_truth):
    seen = []
    run(TrueKeypoints(small_truth), progress=lambda done, total: seen.append((done, total)))[0].close()
    assert seen == [*((k + 1, 48) for k in range(24)), (48, 48)]  # every frame, then every hand again


def test_tiles_cover_the_image_and_overlap():
    whole, *tiles = regions(512, 384, tiles=True)
    covered = np.zeros((384, 512), int)
    for left, top, right, bottom in tiles:
        covered[top:bottom, left:right] += 1
    assert whole == [0, 0, 512, 384]
    assert covered.min() == 1
    assert (covered > 1).mean() > 0.3
    assert regions(512, 384, tiles=False) == [whole]


def test_the_whole_image_is_believed_before_a_tile():
    uv = np.random.default_rng(0).uniform(0, 80, (21, 2))
    arrays = {
        "frame": np.zeros(3, np.int32),
        "region": np.array([2, 0, 3], np.int32),
        "keypoints_px": np.stack([uv + 3, uv, uv + 300]).astype(np.float32),
        "score": np.array([0.99, 0.8, 0.7], np.float32),
        "right": np.array([0.99, 0.8, 0.2], np.float32),
    }
    found = detections_of(arrays)
    assert [round(hand.score, 2) for hand in found] == [0.8, 0.7]


def test_settings_that_change_no_result_are_not_part_of_the_identity():
    def identity(**changes):
        return BACKEND(stage_block("hands", backend="mediapipe", **changes), root=ROOT).identity()

    assert identity() == identity(segment_s=5.0, seed=3, mediapipe={"python": "/usr/bin/python3"})
    for change in ({"max_gap": 2}, {"max_speed_m_s": 1.0}, {"mediapipe": {"tiles": False}}, {"mediapipe": {"fingers_away": False}}):
        assert identity() != identity(**change)
    assert identity()["model"] == "0.10.21"


def test_an_environment_that_is_not_built_is_named_with_the_command(tmp_path):
    block = blocks_of(envs_dir=str(tmp_path))["hands"]
    with pytest.raises(BackendUnavailable, match="videolift models build mediapipe"):
        BACKEND(block, root=ROOT).load(CPU)


def test_landmarks_become_pixels_whose_centres_are_whole_numbers_and_labels_true_sides(monkeypatch):
    point, label = SimpleNamespace(x=0.25, y=0.5), SimpleNamespace(label="Left", score=0.8)
    seen = SimpleNamespace(
        multi_hand_landmarks=[SimpleNamespace(landmark=[point] * 21)],
        multi_handedness=[SimpleNamespace(classification=[label])],
    )
    shown = []

    class FakeHands:
        def __init__(self, **options):
            self.process = lambda image: shown.append(image.shape) or seen

    solutions = SimpleNamespace(hands=SimpleNamespace(Hands=FakeHands))
    monkeypatch.setattr(cv2, "setNumThreads", lambda count: None)
    monkeypatch.setitem(sys.modules, "mediapipe", SimpleNamespace(solutions=solutions, __version__="0"))
    worker = runpy.run_path(str(Path(mediapipe.__file__).with_name("mediapipe_worker.py")))
    worker["load"]({"min_confidence": 0.3, "min_presence": 0.8, "max_hands": 4})
    meta = {"regions": [[40, 30, 140, 90]], "min_side_px": 120}
    _, arrays = worker["call"](meta, {"rgb": np.zeros((1, 100, 160, 3), np.uint8)}, lambda done, total: None)
    assert shown == [(120, 200, 3)]
    assert arrays["keypoints_px"][0, 7].tolist() == [40 + 25 - 0.5, 30 + 30 - 0.5]
    assert arrays["right"][0] == pytest.approx(0.8)  # a selfie's left hand


@pytest.fixture(scope="module")
def detector():
    try:
        build("mediapipe", envs_dir=ROOT / "thirdparty" / "envs")
    except BackendUnavailable as error:
        pytest.skip(f"MediaPipe's environment cannot be built here: {error}")
    backend = BACKEND(blocks_of()["hands"], root=ROOT)
    backend.load(CPU)
    yield backend._process
    backend.close()


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_detector_finds_the_hand_and_its_true_side(detector, orbit_truth, mirrored):
    frames = list(range(2, 60, 8))
    rgb, truth_px = orbit_truth.rgb[frames], orbit_truth.keypoints_px[frames]
    width = rgb.shape[2]
    if mirrored:
        rgb, truth_px = np.ascontiguousarray(rgb[:, :, ::-1]), truth_px * [-1, 1] + [width - 1, 0]
    _, arrays = detector.call({"regions": regions(width, rgb.shape[1], tiles=False), "min_side_px": 480}, {"rgb": rgb})
    error = np.linalg.norm(arrays["keypoints_px"] - truth_px[arrays["frame"]], axis=-1).mean(1)
    assert len(set(arrays["frame"][error < 25].tolist())) >= 4
    assert np.median(error) < 15
    assert (arrays["right"] > 0.5).mean() == pytest.approx(0.0 if mirrored else 1.0, abs=0.2)


def test_tiles_give_keypoints_in_pixels_of_the_whole_image(detector, orbit_truth):
    frames = [10, 30, 50]
    rgb, truth_px = orbit_truth.rgb[frames], orbit_truth.keypoints_px[frames]
    _, arrays = detector.call({"regions": regions(512, 384, tiles=True)[1:], "min_side_px": 480}, {"rgb": rgb})
    error = np.linalg.norm(arrays["keypoints_px"] - truth_px[arrays["frame"]], axis=-1).mean(1)
    assert len(error) >= 3
    assert np.median(error) < 20


def test_the_detector_is_the_same_twice_and_sees_nothing_in_noise(detector, orbit_truth):
    meta = {"regions": regions(512, 384, tiles=False), "min_side_px": 480}
    noise = np.random.default_rng(0).integers(0, 256, (1, 384, 512, 3)).astype(np.uint8)
    frames = np.concatenate([orbit_truth.rgb[[20]], noise, np.zeros_like(noise), orbit_truth.rgb[[20]]])
    _, arrays = detector.call(meta, {"rgb": frames})
    assert arrays["frame"].tolist() == [0, 3]
    assert np.array_equal(arrays["keypoints_px"][0], arrays["keypoints_px"][1])
