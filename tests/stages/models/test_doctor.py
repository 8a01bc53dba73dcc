"""What is missing is named before any work, with the command that mends it; what is there is started and shown."""

import platform
import sys
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest

from stages.hands import wilor
from stages.models import doctor, preflight, trial
from stages.models.doctor import check_machine, doctor_command
from stages.models.preflight import missing
from stages.models.requirements import Machine
from stages.models.trial import figures_of
from stages.registry import ROOT
from stages.settings import parse_config
from tests.blocks import blocks_of
from videolift.errors import BackendUnavailable, ExitCode
from videolift.pool import Device, devices
from videolift.stage_table import STAGES

STANDINS = Path(__file__).parents[1] / "standins"
NO_CARD = (
    "no NVIDIA driver answers. Check with: nvidia-smi; without a card use: preset: laptop or cpu, and no backend that needs one"
)


@pytest.fixture
def no_card(monkeypatch):
    def refuse(kind):
        raise BackendUnavailable(NO_CARD)

    for module in (preflight, doctor, devices):
        monkeypatch.setattr(module, "find_devices", refuse)
    bare = Machine(None, (), 10**12, 10**11, None, None, python_headers=True, system_eigen=False, reaches_eigen=False)
    monkeypatch.setattr(preflight, "this_machine", create_autospec(preflight.this_machine, return_value=bare))


@pytest.fixture
def empty(tmp_path):
    """Settings that point to folders in which nothing is."""
    return {"models_dir": str(tmp_path / "weights"), "envs_dir": str(tmp_path / "envs")}


def blocks(settings):
    return list(blocks_of(**settings).items())


def test_preset_gpu_on_a_bare_machine_names_everything_that_is_missing(no_card, empty):
    lines = missing(blocks({"preset": "gpu", **empty}))
    text = "\n".join(lines)
    for what in ("environment of vipe", "vipe/droid", "environment of tapip3d", "tapip3d_final", "wilor_detector", "mano_right"):
        assert what in text
    assert NO_CARD in lines
    assert all("Type: " in line or "type: " in line or "use: " in line for line in lines)


def test_a_driver_that_is_too_old_stops_a_run_before_any_work(empty, monkeypatch):
    old = Machine("470.57.02", (), 10**12, 10**11, None, None, python_headers=True, system_eigen=False, reaches_eigen=False)
    monkeypatch.setattr(preflight, "this_machine", create_autospec(preflight.this_machine, return_value=old))
    lines = missing(blocks({"preset": "gpu", **empty}))
    assert sum("driver 470.57.02 is older than" in line for line in lines) == 3
    assert not any("470.57.02" in line for line in missing(blocks({"preset": "gpu", **empty}), cards=False))


def test_a_head_node_needs_no_card(no_card, empty):
    assert NO_CARD not in missing(blocks({"preset": "gpu", **empty}), cards=False)


def test_a_model_that_can_do_without_a_card_is_not_refused_for_want_of_one(no_card, empty):
    lines = missing([("depth", blocks_of(depth={"backend": "mapanything"}, **empty)["depth"])])
    assert lines
    assert NO_CARD not in lines


def test_preset_cpu_lacks_only_an_environment_that_the_workflow_builds(no_card, empty):
    wanted = blocks({"preset": "cpu", **empty})
    assert [line.split(":")[0] for line in missing(wanted)] == ["hands (mediapipe)"]
    assert missing(wanted, built_later=["mediapipe"]) == []


def test_structure_from_motion_says_where_its_package_is_missing(no_card, empty, monkeypatch):
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    (line,) = [line for line in missing(blocks({"preset": "cpu", **empty})) if "pycolmap" in line]
    assert line.startswith("depth (sfm): pycolmap is not installed")
    assert "Linux on ARM" in line


def test_a_stage_set_to_none_lacks_nothing(no_card, empty):
    assert missing(blocks({"preset": "cpu", "hands": {"backend": "none"}, **empty})) == []


def test_a_weight_that_changed_is_named(no_card, empty, tmp_path, monkeypatch):
    own = {"weights": str(tmp_path / "nowhere.pth")}
    lines = missing(blocks({"preset": "gpu", "tracks": {"tapip3d": own}, **empty}))
    assert any("nowhere.pth" in line and "correct the setting" in line for line in lines)


def test_asking_builds_and_loads_nothing(no_card, empty, monkeypatch):
    monkeypatch.setattr("videolift.isolation.Isolated.load", lambda *a: pytest.fail("a model was started"))
    missing(blocks({"preset": "gpu", **empty}))


def test_identities_can_be_made_without_weights(empty):
    """The plan of a run must be shown on a machine that has none of them."""
    from stages.registry import identity

    for stage, block in blocks({"preset": "gpu", "masks": {"backend": "sam2"}, **empty}):
        assert identity(stage, block)["name"] == block.backend


@pytest.mark.parametrize("stage", ["depth", "tracks", "hands"])
def test_the_place_of_a_weight_is_no_part_of_an_identity_but_its_bytes_are(stage, empty, tmp_path):
    from stages.registry import identity

    names = {"depth": ("moge", "weights"), "tracks": ("tapip3d", "weights"), "hands": ("wilor", "weights")}
    backend, name = names[stage]

    def of(file, content):
        (tmp_path / file).write_bytes(content)
        own = {"backend": backend, backend: {name: str(tmp_path / file), "python": "/usr/bin/other", "checkout": str(tmp_path)}}
        return identity(stage, blocks_of(**{stage: own, **empty})[stage])

    assert of("a", b"same") == of("b", b"same")
    assert of("a", b"same") != of("c", b"other")


def test_the_doctor_ends_with_3_and_says_what_to_type(no_card, empty, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("".join(f"{key}: {value}\n" for key, value in {"preset": "gpu", **empty}.items()))
    assert doctor_command(["--config-file", str(config)]) == ExitCode.BACKEND
    out = capsys.readouterr().out
    assert "MISSING  depth: vipe" in out
    assert "no nvcc to compile nvidia-vipe" in out
    assert "preset gpu cannot start here" in out


def test_the_doctor_takes_settings_like_snakemake(no_card, empty, tmp_path, capsys):
    changes = [f"{key}={value}" for key, value in {"hands": "{backend: none}", **empty}.items()]
    assert doctor_command(["--config-file", str(tmp_path / "none.yaml"), "--config", *changes]) == ExitCode.OK
    assert "preset cpu can start here" in capsys.readouterr().out


def _wilor(tmp_path, empty, monkeypatch, worker):
    monkeypatch.setattr(wilor, "WORKER", worker)
    for module in (doctor, devices):
        monkeypatch.setattr(module, "find_devices", lambda kind: [Device("cpu", "cpu", "a card", 1 << 33)])
    monkeypatch.setattr(doctor, "no_card", lambda: None)
    np.savez(tmp_path / "w.npz", rgb=np.zeros(1))
    file = str(tmp_path / "w.npz")
    own = {"python": sys.executable, "weights": file, "detector": file, "mano": file, "checkout": str(tmp_path)}
    off = {"depth": {"backend": "none"}, "tracks": {"backend": "none"}}
    config = parse_config({"preset": "gpu", "hands": {"wilor": own}, **off, **empty})
    return [check for check in check_machine(config) if check.part == "hands: wilor"]


def test_the_doctor_starts_a_complete_model_and_shows_its_weights(tmp_path, empty, monkeypatch):
    checks = _wilor(tmp_path, empty, monkeypatch, STANDINS / "wilor_worker.py")
    assert {check.state for check in checks} == {"ok"}
    assert any("sha256" in check.text for check in checks)
    assert checks[-1].text.startswith("starts on a card")
    assert f"python {platform.python_version()}" in checks[-1].text


def test_the_doctor_shows_why_a_model_does_not_load(tmp_path, empty, monkeypatch):
    broken = tmp_path / "worker.py"
    broken.write_text("def load(meta):\n    from videolift_child import require_arguments\n    require_arguments(load, 'fov_x')\n")
    checks = _wilor(tmp_path, empty, monkeypatch, broken)
    assert checks[-1].state == "missing"
    assert "takes no fov_x" in checks[-1].text


def test_the_trial_measures_every_stage_against_truth(small_truth, tmp_path, monkeypatch):
    """With backends that give the truth back, every error is that of storage."""
    from stages.sample.artifacts import write_truth_artifacts
    from videolift.artifacts import Depth, Hands, Tracks

    write_truth_artifacts(tmp_path / "true", "clip", small_truth)
    places = {"depth": ("depth", Depth), "tracks": ("tracks_3d", Tracks), "hands": ("hand_poses", Hands)}

    def frozen(stage, block, folder, inputs):
        assert inputs["clip"] is not None
        return places[stage][1](tmp_path / "true" / places[stage][0] / "clip.h5")

    monkeypatch.setattr(trial, "_work", frozen)
    figures = list(figures_of(parse_config({}), small_truth, tmp_path))
    assert [figure.name.split(",")[0] for figure in figures] == [
        "depth",
        "focal length",
        "camera path",
        "tracks",
        "hand not found",
        "wrist",
        "wrist",
    ]
    assert all(figure.passes for figure in figures)
    assert max(figure.value for figure in figures) < 2e-3


def test_a_figure_that_could_not_be_measured_does_not_pass():
    assert not trial.Figure("x", float("nan"), 1.0, "m").passes
    assert not trial.Figure("x", 2.0, 1.0, "m").passes


def test_every_stage_is_looked_at(no_card, empty):
    parts = " ".join(check.part for check in check_machine(parse_config(empty), ROOT, load=False))
    assert all(stage in parts for stage in STAGES)


def test_vipe_reads_homes_of_the_users_and_the_same_bytes_there_are_the_same_weights(tmp_path, empty):
    from stages.depth.vipe import WEIGHTS, VipeDepth
    from stages.models.weights import WeightStore

    def backend(**own):
        return VipeDepth(blocks_of(**{"depth": {"vipe": own}, **empty})["depth"], root=ROOT)

    installed, known = backend(), WeightStore(ROOT, empty["models_dir"])
    homes = {"torch_home": str(tmp_path / "torch"), "hf_home": str(tmp_path / "hf")}
    mine = backend(**homes)
    assert len(installed.weights) == len(mine.weights) == len(WEIGHTS["default"])
    for name, path in zip(installed.weights, map(Path, mine.weights), strict=True):
        assert tmp_path in path.parents
        for place in (path, known.path(name)):
            file = place / "snapshots" / place.parent.name / "model.bin" if "models--" in place.name else place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(name.encode())
    assert mine.identity() == installed.identity()
    assert None not in mine.identity()["weights"]
