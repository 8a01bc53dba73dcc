"""Quality scores: near nothing on the truth, and each notices the harm it is for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.stages.create_h5.test_hdf5 import remade_depth
from videolift.artifacts import Clip, ClipWriter, Depth, DepthWriter, Hands, HandsWriter, Tracks, TracksWriter
from videolift.dataset.quality import SCORES
from videolift.dataset.verify import verify_file
from videolift.errors import BadInput
from videolift.inputs.framing import Framing
from videolift.store import read_attributes

DOCS = Path(__file__).parents[3] / "docs" / "format.md"


def scores(published):
    with h5py.File(published.path, locking=False) as file:
        return {name: score["value"] for name, score in read_attributes(file)["quality"].items()}


@pytest.fixture
def good(package_clip):
    return scores(package_clip("good")[0])


def test_truth_scores_well_on_everything(package_clip):
    with h5py.File(package_clip()[0].path, locking=False) as file:
        table = read_attributes(file)["quality"]
        assert set(table) == set(SCORES)
        # The rendered wrist lies inside the flesh, and the hand is cut by the square: both are true.
        assert [name for name, score in table.items() if score["poor"]] in (
            [],
            ["cut_hands"],
            ["wrist_depth_gap"],
            ["cut_hands", "lost_wrists"],
        )
        assert table["keypoint_residual_px"]["value"] < 0.01
        assert table["bone_spread"]["value"] < 1e-4
        assert table["depth_residual"]["value"] < 0.01
        assert {"value", "unit", "definition", "threshold", "bad", "poor"} == set(table["valid_depth"])
        for name in file["quality"]:
            assert file[f"quality/{name}"].shape == (14,)


def test_depth_that_breathes_is_noticed(package_clip, truth, tmp_path, good):
    writer = DepthWriter(tmp_path / "d.h5")
    breath = 1 + 0.05 * (-1.0) ** np.arange(14)
    writer.append_frames(truth.depth_m * breath[:, None, None], truth.T_camera_world, np.ones(14, bool))
    writer.put(K=truth.K)
    writer.declare(backend="test", tier="A", scale="metric", pose="given", intrinsics="given")
    writer.publish()
    found = scores(package_clip(depth=Depth(tmp_path / "d.h5"))[0])
    assert found["scale_flicker"] == pytest.approx(0.1, abs=0.03)
    assert found["scale_flicker"] > 10 * good["scale_flicker"]


def test_a_camera_that_jumps_where_the_depth_does_not_is_noticed(package_clip, truth, truth_folder, tmp_path, good):
    writer = DepthWriter(tmp_path / "d.h5")
    E = truth.T_camera_world.copy()
    E[1::2, 2, 3] += 0.05
    writer.append_frames(truth.depth_m, E, np.ones(14, bool))
    writer.put(K=truth.K)
    writer.declare(backend="test", tier="A", scale="metric", pose="given", intrinsics="given")
    writer.publish()
    found = scores(package_clip(depth=Depth(tmp_path / "d.h5"))[0])
    assert found["depth_residual"] > 3 * good["depth_residual"]


def test_the_trackers_own_error_is_told_in_packaged_pixels_at_the_windows_first_frames(package_clip, truth_folder, tmp_path):
    with Tracks(truth_folder / "tracks_3d/clip.h5") as old:
        assert np.isnan(old.forward_backward_px).all()
        writer = TracksWriter(tmp_path / "t.h5")
        writer.describe(**{name: old.attrs[name] for name in ("backend", "window_length", "stride", "query", "seed")})
        for w, missed_px in enumerate([6.0, np.nan, 3.0, 9.0, np.nan]):
            writer.append_window(replace(old[w], forward_backward_px=missed_px))
        writer.publish()
    published, _ = package_clip(tracks=Tracks(tmp_path / "t.h5"))
    scale = 64 / 96
    with h5py.File(published.path, locking=False) as file:
        series, score = file["quality/forward_backward_px"][...], read_attributes(file)["quality"]["forward_backward_px"]
    np.testing.assert_allclose(series[[0, 4, 6]], [6 * scale, 3 * scale, 9 * scale])
    assert np.isnan(np.delete(series, [0, 4, 6])).all()
    assert (score["value"], score["unit"], score["poor"]) == (pytest.approx(6 * scale), "px", True)
    assert verify_file(published.path) == []


def changed_hands(path, source, change):
    with Hands(source) as old:
        names = ("valid", "interpolated", "score", "keypoints_px", "T_camera_wrist", "joints_camera", "mano_pose")
        arrays = {name: getattr(old, name) for name in names}
        change(arrays)
        writer = HandsWriter(path)
        writer.append_frames(**arrays)
        writer.put(betas=old.betas)
        writer.publish()
    return Hands(path)


def shift_keypoints(arrays):
    arrays["keypoints_px"] += 12


def stretch_fingers(arrays):
    wrist = arrays["joints_camera"][:, :, :1]
    factor = (1 + 0.3 * (-1.0) ** np.arange(14))[:, None, None, None]
    arrays["joints_camera"] = wrist + (arrays["joints_camera"] - wrist) * factor


def push_wrist(arrays):
    arrays["T_camera_wrist"][..., 2, 3] += 0.3


def mark_interpolated(arrays):
    arrays["interpolated"][:7] = arrays["valid"][:7]


def keep_five(arrays):
    arrays["valid"][5:] = False


def move_out(arrays):
    arrays["keypoints_px"] += 500


@pytest.mark.parametrize(
    ("score", "change", "least"),
    [
        ("keypoint_residual_px", shift_keypoints, 10.0),
        ("bone_spread", stretch_fingers, 0.25),
        ("wrist_depth_gap", push_wrist, 0.1),
        ("interpolated_hands", mark_interpolated, 0.5),
        ("cut_hands", move_out, 1.0),
    ],
)
def test_each_hand_score_notices_its_harm(package_clip, truth_folder, tmp_path, good, score, change, least):
    hands = changed_hands(tmp_path / "h.h5", truth_folder / "hand_poses/clip.h5", change)
    found = scores(package_clip(hands=hands)[0])
    assert found[score] >= least > good[score]


def test_wrists_that_the_video_never_showed_are_not_lost_by_packaging(package_clip, truth, truth_folder, tmp_path):
    """An arm that comes in at the border has its wrist beyond it: no setting brings that back."""

    def into_the_side(arrays):
        arrays["keypoints_px"][..., 0, 0] = 140.0  # of 128 px

    hands = changed_hands(tmp_path / "h.h5", truth_folder / "hand_poses/clip.h5", into_the_side)
    published, quality = package_clip("as_is", hands=hands)
    assert scores(published)["lost_wrists"] is None
    assert not any("outside the packaged image" in check for check in quality.checks)
    wider = ClipWriter(tmp_path / "wider.h5")
    wider.append_frames(truth.rgb, truth.pts_seconds)
    wider.describe(fps=10.0, source={"sha256": "ab"}, framing=Framing.fit((176, 96), (128, 96), "crop").to_attrs())
    wider.publish()
    published, quality = package_clip("of_wider", hands=hands, clip=Clip(tmp_path / "wider.h5"))
    assert scores(published)["lost_wrists"] == 1
    assert any("100% of the wrists" in c and "ingest.fit: pad with create_h5.view: full keeps them" in c for c in quality.checks)


def test_missing_parts_have_no_score(package_clip):
    found = scores(package_clip(settings={"required": ()}, depth=None, tracks=None, hands=None)[0])
    assert set(found.values()) == {None}


def test_scale_free_files_have_no_wrist_gap(package_clip, truth_folder, tmp_path):
    depth = remade_depth(tmp_path / "d.h5", truth_folder / "depth/clip.h5", factor=20.0, scale="arbitrary")
    hands = changed_hands(
        tmp_path / "h.h5", truth_folder / "hand_poses/clip.h5", lambda a: a["valid"].__setitem__(slice(5, None), False)
    )
    found = scores(package_clip(depth=depth, tracks=None, hands=hands, settings={"required": ()})[0])
    assert found["wrist_depth_gap"] is None


def test_the_scale_is_judged_by_a_known_length(package_clip, truth, inputs):
    palm_m = float(np.median(np.linalg.norm(truth.joints_world[:, 9] - truth.joints_world[:, 0], axis=-1)))
    for factor, off in ((1.0, 0.0), (1.25, 0.2)):
        video = replace(inputs().video, metadata={"known_length": f"{palm_m * factor}"})
        assert scores(package_clip(video=video)[0])["known_length_off"] == pytest.approx(off, abs=1e-3)


@pytest.mark.parametrize("given", ["9 cm", "9", "-0.1", "nan"])
def test_a_known_length_that_is_none_is_refused(package_clip, inputs, given):
    with pytest.raises(BadInput, match="known_length is"):
        package_clip(video=replace(inputs().video, metadata={"known_length": given}))


@pytest.mark.parametrize("name", SCORES)
def test_the_docs_name_every_score_with_its_threshold(name):
    (line,) = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("|") and f"`{name}`" in line]
    assert f"{SCORES[name].threshold:g}" in line.split("|")[3]
