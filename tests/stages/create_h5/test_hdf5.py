"""Packaged files against slow references that are written from the contracts, on artifacts that are exactly the truth."""

from __future__ import annotations

from dataclasses import replace

import cv2
import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from videolift.artifacts import Clip, ClipWriter, Depth, DepthWriter, Hands, HandsWriter, Tracks, TracksWriter
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.errors import BadInput, CorruptFile
from videolift.inputs.framing import Framing
from videolift.store import read_attributes

SIZE, LENGTH, STRIDE = 64, 5, 2


@pytest.fixture
def packaged(package_clip):
    published, _ = package_clip()
    with h5py.File(published.path) as file:
        yield file


def square_intrinsics(K, width, height):
    """By way of corner-origin coordinates, where cropping and scaling are plain."""
    side = min(width, height)
    K = K.copy()
    K[0, 2] = (K[0, 2] + 0.5 - (width - side) // 2) * SIZE / side - 0.5
    K[1, 2] = (K[1, 2] + 0.5 - (height - side) // 2) * SIZE / side - 0.5
    K[0, 0] *= SIZE / side
    K[1, 1] *= SIZE / side
    return K


def test_rgb_is_the_centred_square_resized_by_lanczos(packaged, truth):
    left = (128 - 96) // 2
    for t in (0, 7, 13):
        expected = cv2.resize(truth.rgb[t][:, left : left + 96], (SIZE, SIZE), interpolation=cv2.INTER_LANCZOS4)
        np.testing.assert_array_equal(packaged["rgb"][t], expected.transpose(2, 0, 1))


def test_depth_is_sampled_at_the_nearest_pixel_and_not_clipped(package_clip, truth):
    with h5py.File(package_clip(settings={"depth_max_m": 1.0})[0].path) as file:
        depth = file["depth"][...]
    assert depth.max() > 1.0
    for t in (0, 13):
        for row in range(0, SIZE, 7):
            for column in range(SIZE):
                y, x = int((row + 0.5) * 96 / SIZE), int((column + 0.5) * 96 / SIZE) + 16
                assert depth[t, row, column] == np.float16(truth.depth_m[t, y, x])


def test_intrinsics_belong_to_the_packaged_size(packaged, truth):
    np.testing.assert_allclose(packaged["camera/intrinsics"][...], square_intrinsics(truth.K, 128, 96), rtol=1e-6)


def test_a_depth_pixel_projects_to_itself_through_the_packaged_camera(packaged, truth):
    """Two frames, one world point: intrinsics, crop and poses of the file agree with the truth."""
    K, E = packaged["camera/intrinsics"][...].astype(float), packaged["camera/T_camera_world"][...].astype(float)
    np.testing.assert_allclose(E, truth.T_camera_world, atol=1e-6)
    x, y = 30, 40
    z = float(packaged["depth"][3, y, x])
    in_camera = np.linalg.inv(K) @ [x * z, y * z, z]
    full = truth.K @ in_camera
    u, v = full[:2] / full[2]
    np.testing.assert_allclose([u, v], [(x + 0.5) * 1.5 - 0.5 + 16, (y + 0.5) * 1.5 - 0.5], atol=1e-4)


def reference_window(truth, tracks, w):
    """Kept points of a window and their uvd, one point at a time."""
    window, K = tracks[w], square_intrinsics(truth.K, 128, 96)
    kept, found = [], []
    for n in range(window.xyz_cam0.shape[1]):
        uvd, good = [], bool(window.visible[0, n])
        for k in range(LENGTH):
            x, y, z = window.xyz_cam0[k, n].astype(float)
            px = (window.uv_px[k, n].astype(float) - [16, 0] + 0.5) * SIZE / 96 - 0.5
            good = good and bool(window.valid3d[k, n]) and z > 0 and bool((px >= -0.5).all() and (px < SIZE - 0.5).all())
            uvd.append([(K[0, 0] * x / z + K[0, 2] + 0.5) / SIZE, (K[1, 1] * y / z + K[1, 2] + 0.5) / SIZE, z])
            good = good and 0 <= np.float32(uvd[-1][0]) < 1 and 0 <= np.float32(uvd[-1][1]) < 1
        if good and 0.1 <= uvd[0][2] <= 2.5:
            kept.append(n)
            found.append(uvd)
    return kept, np.array(found)


def test_tracks_hold_exactly_the_points_of_the_rule(packaged, truth, truth_folder):
    offsets = packaged["tracks/offsets"][...]
    with Tracks(truth_folder / "tracks_3d" / "clip.h5") as tracks:
        assert packaged["tracks/window_start"][...].tolist() == [0, 2, 4, 6, 8]
        assert 0 < offsets[-1] < tracks.offsets[-1], "the rule drops some points and keeps some"
        for w in range(len(tracks)):
            kept, expected = reference_window(truth, tracks, w)
            part = slice(offsets[w], offsets[w + 1])
            query, displacement = packaged["tracks/query"][part], packaged["tracks/displacement"][:, part]
            assert len(query) == len(kept)
            order, wanted = (np.lexsort(np.round(uv, 4).T) for uv in (query[:, :2], expected[:, 0, :2]))
            np.testing.assert_allclose(query[order], expected[wanted, 0], atol=1e-6)
            moved = (expected - expected[:, :1]).transpose(1, 0, 2)
            np.testing.assert_allclose(displacement[:, order], moved[:, wanted], atol=1e-6)
            labels, visible = packaged["tracks/label"][part], packaged["tracks/visible"][:, part]
            np.testing.assert_array_equal(labels[order], tracks[w].label[np.array(kept)[wanted]])
            np.testing.assert_array_equal(visible[:, order], tracks[w].visible[:, np.array(kept)[wanted]])


def test_points_of_a_window_are_stored_in_seeded_random_order(package_clip):
    files = {}
    for name, settings in (("a", {}), ("b", {}), ("c", {"seed": 5})):
        with h5py.File(package_clip(name, settings=settings)[0].path) as file:
            files[name] = file["tracks/query"][...], int(file["tracks/offsets"][1])
    np.testing.assert_array_equal(files["a"][0], files["b"][0])
    assert (files["a"][0] != files["c"][0]).any()
    first = files["a"][0][: files["a"][1], 1]
    assert np.abs(np.corrcoef(first, np.arange(len(first)))[0, 1]) < 0.4


def test_pose9d_is_camera_k_in_camera_0_with_world_to_camera_composed_in_the_right_order(packaged, truth):
    E = truth.T_camera_world
    for w, start in enumerate(packaged["tracks/window_start"][...]):
        for k in range(LENGTH):
            T = E[start] @ np.linalg.inv(E[start + k])
            np.testing.assert_allclose(packaged["tracks/pose9d"][w, k], [*T[:3, 0], *T[:3, 1], *T[:3, 3]], atol=1e-6)


def test_left_hand_in_camera_0_equals_the_truth(packaged, truth):
    assert packaged["hands/valid"][...].tolist() == [[True, False]] * 14
    K, E = square_intrinsics(truth.K, 128, 96), truth.T_camera_world
    for w, start in enumerate(packaged["tracks/window_start"][...]):
        T = [E[start] @ truth.T_world_wrist[start + k] for k in range(LENGTH)]
        uvd = np.array([[*((K @ t[:3, 3])[:2] / t[2, 3] + 0.5) / SIZE, t[2, 3]] for t in T])
        np.testing.assert_allclose(packaged["hands/window_query_uvd"][w, 0], uvd[0], atol=1e-5)
        np.testing.assert_allclose(packaged["hands/window_displacement_uvd"][w, 0], uvd - uvd[0], atol=1e-5)
        for k in range(LENGTH):
            R = T[k][:3, :3] @ T[0][:3, :3].T
            np.testing.assert_allclose(packaged["hands/window_displacement_rot6d"][w, 0, k], [*R[:, 0], *R[:, 1]], atol=1e-5)
    assert np.isnan(packaged["hands/window_query_uvd"][:, 1]).all()


def test_keypoints_are_in_packaged_pixels(packaged, truth):
    expected = (truth.keypoints_px - [16, 0] + 0.5) * SIZE / 96 - 0.5
    np.testing.assert_allclose(packaged["hands/keypoints_px"][:, 0], expected, atol=1e-4)


def test_statistics_in_the_file_equal_those_of_its_own_arrays(packaged):
    stored = Accumulators.unpack({name: packaged[f"stats/{name}"][...] for name in packaged["stats"]})
    again = Accumulators()
    again.add_rgb(packaged["rgb"][...])
    again.add_depth(packaged["depth"][...], (0.1, 2.5))
    again.add("query_depth", packaged["tracks/query"][:, 2:])
    again.add("displacement", packaged["tracks/displacement"][...][packaged["tracks/visible"][...]])
    again.add("pose", packaged["tracks/pose9d"][...])
    again.add("hand_uvd_displacement", packaged["hands/window_displacement_uvd"][:, 0])
    again.add("hand_rot_displacement", packaged["hands/window_displacement_rot6d"][:, 0])
    again.add("hand_frames", np.zeros((14, 1), np.uint8))
    for name, array in again.pack().items():
        np.testing.assert_array_equal(stored.pack()[name], array)


def test_equal_work_gives_equal_bytes_that_name_no_place(package_clip, tmp_path):
    first, _ = package_clip("a")
    second, _ = package_clip("b")
    assert first.sha256 == second.sha256
    content = first.path.read_bytes()
    assert str(tmp_path).encode() not in content
    assert b"nowhere" not in content


def test_attributes_say_what_the_numbers_mean(packaged):
    attrs = read_attributes(packaged)
    assert (attrs["tier"], attrs["scale"], attrs["length_unit"], attrs["text"]) == ("A", "metric", "metre", "lift the box")
    assert attrs["parts"] == ["depth", "tracks", "hands"]
    assert attrs["view"] == {"left_px": 16, "top_px": 0, "width_px": 96, "height_px": 96, "size_px": [64, 64]}
    assert (attrs["window_length"], attrs["stride"], attrs["depth_min_m"], attrs["depth_max_m"]) == (5, 2, 0.1, 2.5)


@pytest.mark.parametrize(
    "absent", [("tracks",), ("hands",), ("tracks", "hands"), ("depth", "tracks", "hands"), ("depth", "tracks")]
)
def test_parts_that_are_not_required_may_be_missing_and_are_named(package_clip, absent):
    missing = dict.fromkeys(absent, "it failed")
    published, quality = package_clip(settings={"required": ()}, missing=missing, **dict.fromkeys(absent))
    absences = [check.split(":")[0] for check in quality.checks if check.startswith("without")]
    assert absences == [f"without {part}" for part in sorted(absent)]
    if "hands" not in absent:
        assert any("create_h5.view: full keeps them" in check for check in quality.checks)  # this hand stands beside the square
    with h5py.File(published.path) as file:
        assert "rgb" in file
        for part in ("depth", "tracks", "hands"):
            assert (part in file) == (part not in absent)
        assert read_attributes(file)["missing"] == missing


def test_a_required_part_that_is_missing_refuses_the_video(package_clip):
    with pytest.raises(BadInput, match="tracks \\(no texture\\)") as caught:
        package_clip(tracks=None, missing={"tracks": "no texture"})
    assert caught.value.code == "required_part_missing"


def remade_depth(path, source, *, factor=1.0, **declared):
    with Depth(source) as old:
        writer, poses = DepthWriter(path), old.T_camera_world.copy()
        poses[:, :3, 3] *= factor
        writer.append_frames(old[0 : len(old)].astype(np.float32) * factor, poses, old.pose_valid)
        writer.put(K=old.K)
        writer.declare(**({"backend": "test", "tier": "C", "scale": "metric", "pose": "sfm", "intrinsics": "given"} | declared))
        writer.publish()
    return Depth(path)


@pytest.mark.parametrize("pose", ["static", "rotation"])
def test_a_camera_that_does_not_move_or_only_turns_is_refused_in_these_words(pose, package_clip, truth_folder, tmp_path):
    depth = remade_depth(tmp_path / "d.h5", truth_folder / "depth/clip.h5", tier="D", pose=pose, scale="assumed")
    with pytest.raises(BadInput) as caught:
        package_clip(depth=depth)
    assert caught.value.code == "tier_below_minimum"
    assert caught.value.text == (
        "depth cannot be observed from a camera that does not move: "
        "give depth (rgbd), use the preset laptop or gpu, or accept a prior with min_tier: D"
    )
    assert package_clip(depth=depth, settings={"min_tier": "D"})[0].bytes > 0


def test_a_tier_below_min_tier_is_refused(package_clip, truth_folder, tmp_path):
    depth = remade_depth(tmp_path / "d.h5", truth_folder / "depth/clip.h5")
    with pytest.raises(BadInput, match="tier C, structure from motion; min_tier is B"):
        package_clip(depth=depth, settings={"min_tier": "B"})


def test_a_refusal_gives_the_reason_of_the_depth_stage_and_a_guessed_camera_its_remedy(package_clip, truth_folder, tmp_path):
    depth = remade_depth(tmp_path / "d.h5", truth_folder / "depth/clip.h5", tier="D", scale="assumed", intrinsics="assumed")
    facts = {
        "depth": {"backend": {}, "shrink": 1.0, "checks": ["the camera moves too little to show its focal length"], "figures": {}}
    }
    with pytest.raises(BadInput, match="depth is tier D, .*too little to show its focal length") as caught:
        package_clip(depth=depth, lineage=facts)
    assert "columns camera or calib" in caught.value.remedy
    assert "preset: laptop" in caught.value.remedy


def test_artifacts_of_another_window_length_are_not_packaged(package_clip):
    with pytest.raises(CorruptFile, match="window_length 6"):
        package_clip(settings={"window_length": 6})


def remade_tracks(path, source, factor):
    with Tracks(source) as old:
        writer = TracksWriter(path)
        writer.describe(backend="test", window_length=LENGTH, stride=STRIDE, query="grid", seed=0)
        for w in range(len(old)):
            writer.append_window(replace(old[w], xyz_cam0=old[w].xyz_cam0 * np.float32(factor)))
        writer.publish()
    return Tracks(path)


def test_enough_hands_give_metres_to_everything_in_one_unit(package_clip, truth_folder, tmp_path, packaged):
    """Depth, camera translations and tracks are multiplied by one factor; hands were in metres already."""
    unit = 1 / 0.4
    depth = remade_depth(tmp_path / "d.h5", truth_folder / "depth/clip.h5", factor=unit, scale="arbitrary")
    tracks = remade_tracks(tmp_path / "t.h5", truth_folder / "tracks_3d/clip.h5", unit)
    published, _ = package_clip("scaled", depth=depth, tracks=tracks)
    with h5py.File(published.path) as file:
        found = read_attributes(file)["hand_scale"]
        assert (read_attributes(file)["scale"], read_attributes(file)["length_unit"]) == ("hand", "metre")
        assert found["factor"] == pytest.approx(0.4, rel=0.15)
        assert found["spread"] is not None
        ratio = found["factor"] / 0.4
        true_depth = packaged["depth"][...]
        np.testing.assert_allclose(file["depth"][...][true_depth > 0], true_depth[true_depth > 0] * ratio, rtol=2e-3)
        true_t, t = packaged["camera/T_camera_world"][:, :3, 3], file["camera/T_camera_world"][:, :3, 3]
        np.testing.assert_allclose(t, true_t * ratio, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(file["tracks/pose9d"][..., 6:], packaged["tracks/pose9d"][..., 6:] * ratio, atol=1e-5)
        np.testing.assert_array_equal(file["hands/T_camera_wrist"][...], packaged["hands/T_camera_wrist"][...])
        assert file["tracks/query"][:, 2].max() <= 2.5
        points = {tuple(np.round(q[:2], 4)): q[2] for q in packaged["tracks/query"][: packaged["tracks/offsets"][1]]}
        found = [(q[2], points.get(tuple(np.round(q[:2], 4)))) for q in file["tracks/query"][: file["tracks/offsets"][1]]]
        both = np.array([pair for pair in found if pair[1] is not None])
        assert len(both) > 100
        np.testing.assert_allclose(both[:, 0], both[:, 1] * ratio, rtol=1e-4)


def without_hands(path, source):
    with Hands(source) as old:
        names = ("interpolated", "score", "keypoints_px", "T_camera_wrist", "joints_camera", "mano_pose")
        arrays, valid = {name: getattr(old, name) for name in names}, old.valid
        valid[5:] = False
        writer = HandsWriter(path)
        writer.append_frames(valid=valid, **arrays)
        writer.put(betas=old.betas)
        writer.publish()
    return Hands(path)


def test_without_enough_hands_lengths_stay_scale_free_and_hand_translations_become_nan(package_clip, truth_folder, tmp_path):
    depth = remade_depth(tmp_path / "d.h5", truth_folder / "depth/clip.h5", factor=20.0, scale="arbitrary")
    tracks = remade_tracks(tmp_path / "t.h5", truth_folder / "tracks_3d/clip.h5", 20.0)
    hands = without_hands(tmp_path / "h.h5", truth_folder / "hand_poses/clip.h5")
    published, quality = package_clip(depth=depth, tracks=tracks, hands=hands)
    assert "5 hands, 10 are needed" in quality.checks[0]
    with h5py.File(published.path) as file:
        assert (read_attributes(file)["scale"], read_attributes(file)["length_unit"]) == ("arbitrary", "median depth of the clip")
        assert file["tracks/query"][:, 2].max() > 2.5, "scale-free depth was compared with metres"
        valid = file["hands/valid"][...]
        wrist = file["hands/T_camera_wrist"][...][valid]
        assert np.isnan(wrist[:, :3, 3]).all()
        assert np.isfinite(wrist[:, :3, :3]).all()
        assert np.isnan(file["hands/joints_camera"][...]).all()
        assert np.isnan(file["hands/window_displacement_uvd"][...]).all()
        assert np.isfinite(file["hands/window_displacement_rot6d"][0, 0]).all()
        figures = Accumulators.unpack({name: file[f"stats/{name}"][...] for name in file["stats"]}).summaries()
        assert figures["depth"][0].maximum > 2.5
        assert "hand_uvd_displacement" not in figures
        assert figures["hand_rot_displacement"][0].samples == LENGTH


def test_a_window_without_kept_points_stays(package_clip, truth_folder, tmp_path):
    tracks = remade_tracks(tmp_path / "t.h5", truth_folder / "tracks_3d/clip.h5", 100.0)
    with h5py.File(package_clip(tracks=tracks, settings={"min_points": 0})[0].path) as file:
        assert file["tracks/offsets"][...].tolist() == [0] * 6
        assert file["tracks/displacement"].shape == (LENGTH, 0, 3)
        assert file["tracks/pose9d"].shape == (5, LENGTH, 9)


def test_a_clip_shorter_than_a_window_is_refused(package_clip, tmp_path):
    writer = TracksWriter(tmp_path / "t.h5")
    writer.describe(backend="test", window_length=20, stride=STRIDE, query="grid", seed=0)
    writer.publish()
    with pytest.raises(BadInput, match="it has 14 frames, a window needs 20") as caught:
        package_clip(tracks=Tracks(tmp_path / "t.h5"), settings={"window_length": 20})
    assert caught.value.code == "too_short"


def test_progress_reaches_its_total(package_clip):
    seen = []
    package_clip(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == 14 + 5
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_users_mask_is_packaged_with_nearest_pixels(package_clip, truth, tmp_path, inputs):
    np.savez(tmp_path / "mask.npz", mask=truth.instance)
    writer = ClipWriter(tmp_path / "c.h5")
    writer.append_frames(truth.rgb, truth.pts_seconds)
    writer.describe(
        fps=10.0, source={"vfr": False, "fps_measured": 10.0}, framing=Framing.fit((128, 96), (128, 96), "crop").to_attrs()
    )
    writer.publish()
    video = replace(inputs().video, mask=tmp_path / "mask.npz")
    with h5py.File(package_clip(video=video, clip=Clip(tmp_path / "c.h5"))[0].path) as file:
        masks = file["masks/instance"][...]
        assert "mask" in read_attributes(file)["parts"]
    for row, column in ((3, 5), (40, 33), (60, 60)):
        y, x = int((row + 0.5) * 96 / SIZE), int((column + 0.5) * 96 / SIZE) + 16
        assert masks[7, row, column] == truth.instance[7, y, x]
    assert set(np.unique(masks)) <= set(np.unique(truth.instance))
