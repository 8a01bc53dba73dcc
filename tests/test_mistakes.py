"""The predecessor's mistakes stay away: every one has its tests, and each of those fails when the mistake is put back.

The table is `tests.mistakes`; here are the checks of it, and the tests that belong to no other place.
"""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stages.depth.networks.vipe_checks import check_relief, stretch_figures
from stages.depth.networks.vipe_settings import VipeSettings
from stages.depth.vipe import _VipeClip
from stages.hands import wilor
from stages.segments import CALL_FRAMES
from stages.tracks import tapip3d
from stages.tracks.queries import Queries
from stages.tracks.tapip3d import Tapip3dSettings
from tests.blocks import blocks_of
from tests.mistakes import FAULT, MISTAKES
from videolift.artifacts import Clip, ClipWriter, DepthWriter, HandsWriter
from videolift.errors import BadInput
from videolift.geometry import T_camk_cam0, mirror_points, project
from videolift.isolation import checkpoints, isolation_child

ROOT = Path(__file__).parents[1]
PUT_BACK = {name: mistake for name, mistake in MISTAKES.items() if mistake.file}


@cache
def names_in(file: str) -> frozenset[str]:
    """Names of the test functions of a file; for the pool's table, of its cases."""
    text = (ROOT / file).read_text(encoding="utf-8")
    names = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    return frozenset(names | {f"test_fault[{number}]" for number in re.findall(r"^@case\((\d+),", text, re.M)})


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_has_tests_that_exist(name):
    for test in MISTAKES[name].tests + MISTAKES[name].also:
        file, _, function = test.partition("::")
        assert function in names_in(file), test


def test_the_table_leaves_none_out():
    numbers = {int(found.group(1)) for name in MISTAKES if (found := re.match(r"m(\d+) ", name))}
    assert numbers == set(range(33))
    assert FAULT.partition("::")[2] in names_in(FAULT.partition("::")[0])


@pytest.mark.parametrize("name", PUT_BACK)
def test_a_mistake_can_be_put_back(name):
    mistake = PUT_BACK[name]
    text = (ROOT / mistake.file).read_text(encoding="utf-8")
    assert text.count(mistake.right) == 1, f"{mistake.file} holds {text.count(mistake.right)} times: {mistake.right}"
    ast.parse(text.replace(mistake.right, mistake.wrong))


@pytest.fixture(scope="session")
def copy(tmp_path_factory) -> Path:
    """The packages and their tests, to be damaged."""
    folder = tmp_path_factory.mktemp("damaged")
    for name in ("videolift", "stages", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ("pyproject.toml", "config.yaml"):
        shutil.copy(ROOT / path, folder / path)
    for name in ("thirdparty", "envs", "docs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", PUT_BACK)
def test_a_mistake_put_back_fails_each_of_its_tests(copy, name):
    """Runs what the table names against the damaged copy; every test must fail, and pass undamaged (elsewhere in this suite)."""
    mistake = PUT_BACK[name]
    damaged = copy / mistake.file
    whole = damaged.read_text(encoding="utf-8")
    damaged.write_text(whole.replace(mistake.right, mistake.wrong), encoding="utf-8")
    try:
        failed = _failures(copy, mistake.tests)
    finally:
        damaged.write_text(whole, encoding="utf-8")
    assert set(mistake.tests) - failed == set()


def _failures(folder: Path, tests: tuple[str, ...]) -> set[str]:
    """Those of ``tests`` that fail for at least one of their parameters."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-rfE", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {re.split(r"[\[ ]", line, maxsplit=2)[1] for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))}


def test_left_hands_are_mirrored_to_the_fingertips():
    """A model that sees right hands only is shown the mirror image of a left hand; its answer is mirrored back, all of it."""
    joints = np.random.default_rng(0).normal(size=(2, 21, 3))
    R, pose = Rotation.random(2, random_state=1).as_matrix(), Rotation.random(30, random_state=2).as_matrix().reshape(2, 15, 3, 3)
    reply = {
        "joints": joints,
        "global_orient": R,
        "hand_pose": pose,
        "betas": np.zeros((2, 10)),
        "keypoints_px": np.zeros((2, 21, 2)),
    }
    right, left = (wilor.HandPoses.of(reply, np.arange(len(reply["joints"])), side) for side in ("right", "left"))
    finger = np.array([-0.03, 0.002, 0.01])  # in the frame of its parent, as a right hand has it
    for n in range(2):
        for joint in range(15):
            tip = right.R_camera_wrist[n] @ right.mano_pose[n, joint] @ finger
            mirrored = left.R_camera_wrist[n] @ left.mano_pose[n, joint] @ mirror_points(finger)
            np.testing.assert_allclose(mirrored, mirror_points(tip), atol=1e-12)
    np.testing.assert_allclose(left.joints_m, mirror_points(right.joints_m))


def test_frames_reach_the_hand_model_a_few_at_a_time(tmp_path):
    writer = ClipWriter(tmp_path / "clip.h5")
    writer.append_frames(np.zeros((70, 8, 8, 3), np.uint8), np.arange(70) / 10)
    writer.describe(fps=10.0)
    seen = []

    def call(meta, arrays):
        seen.append((len(arrays["rgb"]), meta["batch_frames"]))
        none = np.zeros(0)
        return {"frame": np.zeros(0, np.int32), "box": np.zeros((0, 4)), "score": none, "right": none}

    with Clip(writer.publish().path) as clip:
        block = blocks_of()["hands"]
        wilor.TwoPasses(call, clip, HandsWriter(tmp_path / "hands.h5"), block, 1.0, lambda done, total: None).boxes()
    assert sum(frames for frames, _ in seen) == 70
    assert max(frames for frames, _ in seen) <= CALL_FRAMES
    assert max(batch for _, batch in seen) <= CALL_FRAMES


MODEL = {"seq_len": 16, "stride": 4, "image_size": (384, 512)}


def test_the_resolution_factor_is_that_of_what_the_model_is_fed():
    sizes = {factor: tapip3d.FeedingPlan.of(16, (384, 512), MODEL, factor).size for factor in (1.0, 0.25, 1.0)}
    assert sizes == {1.0: (384, 512), 0.25: (192, 256)}
    sent = []
    scene = SimpleNamespace(K=np.array([[400.0, 0, 255.5], [0, 400, 191.5], [0, 0, 1]]))
    clip = SimpleNamespace(width=512, height=384)
    tapip3d._Feed(lambda meta, arrays: sent.append(meta), clip, scene, tapip3d.FeedingPlan(16, 16, sizes[0.25]))
    assert sent[0]["size"] == [192, 256]
    assert sent[0]["K"][0] == [200, 0, 127.5]


def test_points_the_model_lost_are_not_visible():
    """Sigmoid 0.9 of the visibility logit is upstream's threshold; the logits stay, so another may be chosen later."""
    settings = Tapip3dSettings()
    assert settings.visibility == 0.9
    frames, logit = 3, np.array([[5.0, 1.0, -5.0]] * 3, np.float32)
    scene = SimpleNamespace(
        T_camera_world=np.tile(np.eye(4), (frames, 1, 1)), K=np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
    )
    xyz = np.tile([0.0, 0.0, 1.0], (frames, 3, 1))
    reply = {"kept": np.ones(3, bool), "xyz_cam0": xyz, "logit": logit}
    queries = Queries(uv_px=project(xyz[0], scene.K).astype(np.float32), label=np.zeros(3, np.uint8))
    window = tapip3d.window_of(0, frames, queries, reply, scene, tapip3d.VisibilityLimit((64, 48), settings.visibility))
    assert window.visible.tolist() == [[True, False, False]] * 3
    assert window.valid3d.all()
    np.testing.assert_array_equal(window.visibility_logit, logit)
    np.testing.assert_array_equal(T_camk_cam0(scene.T_camera_world), scene.T_camera_world)


def test_depth_edges_are_filtered_before_the_model_sees_them(monkeypatch):
    """The worker with upstream's filter replaced: what lies between near and far at a silhouette must not pass."""
    monkeypatch.setitem(sys.modules, "videolift_child", isolation_child)
    monkeypatch.setitem(sys.modules, "videolift_checkpoints", checkpoints)
    worker = importlib.import_module("stages.tracks.tapip3d_worker")
    monkeypatch.setattr(worker, "K_model", np.eye(3))
    monkeypatch.setattr(worker, "without_edges", lambda depth, K: np.where(depth == 1.5, 1.0, depth))
    depth = np.ones((4, 4), np.float32)
    depth[:, 2], depth[:, 3] = 1.5, 2.0
    _, prepared = worker.prepare(np.zeros((4, 4, 3), np.uint8), depth, (4, 4))
    assert set(np.unique(prepared)) == {1.0, 2.0}


def test_a_close_up_of_a_table_is_not_flat():
    """A table 0.3 m away with 3 cm of relief is no wall; a wall 4 m away with 5 cm of noise is. The refusal holds, by its code."""
    rng, settings = np.random.default_rng(0), VipeSettings()
    check_relief(stretch_figures(rng.normal(0.3, 0.03, (20, 30, 40)))[1], settings)
    with pytest.raises(BadInput) as error:
        check_relief(stretch_figures(rng.normal(4.0, 0.05, (20, 30, 40)))[1], settings)
    assert error.value.code == "flat_depth"


def test_vipe_is_told_the_clips_own_rate(tmp_path):
    settings, asked = blocks_of(preset="gpu")["depth"], []
    reply = {"depth": np.ones((5, 2, 2)), "T_world_camera": np.tile(np.eye(4), (5, 1, 1)), "intrinsics": np.ones(4)}
    clip = type("Frames", (list,), {"fps": 12.5, "attrs": {}, "width": 2, "known_camera": lambda self: None})(range(5))
    out = DepthWriter(tmp_path / "depth.h5")
    work = _VipeClip(lambda meta, arrays, progress: asked.append(meta) or reply, clip, out, settings, 1.0, lambda done, total: None)
    work._stretch(0, 5)
    out.discard()
    assert asked[0]["fps"] == 12.5


def test_nobody_replaces_torch_load_and_no_pickle_is_loaded_freely():
    """Checkpoints are read with an unpickler that knows what it may build, and only where they are read."""
    for path in sorted([*(ROOT / "stages").rglob("*.py"), *(ROOT / "videolift").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Assign, ast.AugAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                assert not [t for t in targets if ast.unparse(t) in ("torch.load", "pickle.load", "pickle.Unpickler")], path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.serialization.load"):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                safe = given.get("weights_only") == "True" or given.get("pickle_module", "").startswith("restricted")
                assert safe, f"{path}:{node.lineno}"
