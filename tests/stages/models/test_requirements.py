"""What a machine lacks is said before anything is downloaded, each in one sentence with what to type; the machines are made up."""

from dataclasses import replace

import pytest

from stages.models import environments
from stages.models.environments import build, read_environment
from stages.models.requirements import Gpu, Machine, build_problems, card_problems, this_machine
from videolift.errors import BackendUnavailable

GOOD = Machine(
    driver="580.95.05",
    gpus=(Gpu("NVIDIA RTX 4090", (8, 9), 24 << 30),),
    disk_bytes=200 * 10**9,
    memory_bytes=64 << 30,
    nvcc=("/usr/local/cuda-12.8/bin/nvcc", "12.8"),
    gcc=13,
    python_headers=True,
    system_eigen=False,
    reaches_eigen=True,
)
ALL = ("mapanything", "mediapipe", "moge", "sam2", "tapip3d", "vipe", "wilor")


def sentences(name, **changes):
    environment, machine = read_environment(name), replace(GOOD, **changes)
    return [*build_problems(environment, machine), *card_problems(environment, machine)]


@pytest.mark.parametrize("name", ALL)
def test_a_good_machine_lacks_nothing(name):
    assert sentences(name) == []


def test_an_old_driver_is_told_which_pin_fits_it():
    (line,) = sentences("tapip3d", driver="570.124.06")
    assert line == (
        "driver 570.124.06 is older than 580.65.06, which CUDA 13.0.96 of the environment tapip3d needs: update the driver, or pin "
        "torch==2.8.0 with torchvision==0.23.0, which bring CUDA 12.8, in envs/tapip3d.yaml"
    )
    assert sentences("vipe", driver="570.124.06") == []


def test_a_driver_too_old_for_every_pin_has_to_be_updated():
    for name in ("tapip3d", "vipe"):
        (line,) = sentences(name, driver="470.57.02")
        assert line.endswith("needs: update the driver")


@pytest.mark.parametrize(
    ("name", "floor"),
    [
        *[(name, "580.65.06") for name in ("mapanything", "moge", "sam2", "tapip3d", "wilor")],
        ("vipe", "525.60.13"),
        ("mediapipe", None),
    ],
)
def test_every_environments_pins_are_compared_with_the_driver_that_their_cuda_needs(name, floor):
    lines = sentences(name, driver="1.0")
    assert [floor is not None and f"driver 1.0 is older than {floor}" in line for line in lines] == [True] * (floor is not None)
    assert floor is None or sentences(name, driver=floor) == []


def test_versions_are_compared_as_numbers():
    assert sentences("tapip3d", driver="1000.1") == []
    assert len(sentences("tapip3d", driver="580.9.1")) == 1


def test_an_old_card_is_named_with_the_capability_that_the_pinned_torch_has_code_for():
    (line,) = sentences("moge", gpus=(Gpu("Tesla V100", (7, 0), 16 << 30),))
    assert "Tesla V100 has compute capability 7.0, torch 2.13.0 of the environment moge has code from 7.5 on" in line
    assert "pin torch==2.8.0" in line
    assert sentences("vipe", gpus=(Gpu("Tesla V100", (7, 0), 16 << 30),)) == []
    (line,) = sentences("vipe", gpus=(Gpu("GTX 1080", (6, 1), 8 << 30),))
    assert line.endswith("take another card, or preset: cpu, which needs none")


def test_a_machine_without_cards_may_build_and_a_model_without_cuda_needs_no_driver():
    assert sentences("wilor", driver=None, gpus=()) == []
    assert sentences("mediapipe", driver="300.1") == []


def test_a_full_disk_is_said_before_the_download():
    (line,) = sentences("wilor", disk_bytes=3 * 10**9)
    assert line == "3.0 GB are free, the environment wilor needs 7.0 GB: free some, or set envs_dir to another disk"


@pytest.mark.parametrize(
    ("changes", "found", "remedy"),
    [
        ({"nvcc": None}, "no nvcc", "set CUDA_HOME"),
        ({"nvcc": ("/usr/bin/nvcc", "11.5")}, "/usr/bin/nvcc is nvcc 11.5, needed is 12.8", "set CUDA_HOME"),
        ({"gcc": None}, "no C++ compiler", "apt install g++"),
        ({"gcc": 15}, "g++ is 15, nvcc 12.8 takes 14 at most", "CXX=g++-14"),
        ({"python_headers": False}, "no Python.h", "python3.11-dev"),
        ({"reaches_eigen": False}, "gitlab.com, which has Eigen, does not answer", "USE_SYSTEM_EIGEN=1"),
        ({"memory_bytes": 4 << 30}, "4 GB of memory are little", "MAX_JOBS=1"),
    ],
    ids=lambda value: "",
)
def test_each_thing_that_vipe_is_compiled_with_is_one_sentence(changes, found, remedy, monkeypatch):
    for name in ("USE_SYSTEM_EIGEN", "MAX_JOBS"):
        monkeypatch.delenv(name, raising=False)
    (line,) = sentences("vipe", **changes)
    assert found in line
    assert remedy in line
    assert sentences("moge", **changes) == []


def test_the_systems_eigen_needs_no_network(monkeypatch):
    monkeypatch.setenv("USE_SYSTEM_EIGEN", "1")
    assert sentences("vipe", reaches_eigen=False, system_eigen=True) == []
    (line,) = sentences("vipe", system_eigen=False)
    assert "libeigen3-dev" in line


def test_everything_missing_is_said_at_once_and_nothing_was_downloaded(tmp_path, monkeypatch):
    poor = replace(GOOD, nvcc=None, gcc=None, disk_bytes=0, driver="470.57.02")
    monkeypatch.setattr("stages.models.requirements.this_machine", lambda envs_dir, compiles: poor)
    monkeypatch.setattr(environments, "_uv", lambda *a: pytest.fail("uv was run"))
    with pytest.raises(BackendUnavailable) as error:
        build("vipe", envs_dir=tmp_path / "envs")
    assert str(error.value).count("\n- ") == 4
    assert str(error.value).startswith("nothing was downloaded")


def test_without_a_network_one_sentence_says_what_is_needed_and_that_the_same_command_goes_on(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(BackendUnavailable) as error:
        build("moge", envs_dir=tmp_path / "envs")
    assert "It needs a network that reaches a package index" in str(error.value)
    assert str(error.value).endswith("type the same command again")
    assert not (tmp_path / "envs" / ".ok").exists()


def test_this_machine_is_looked_at_without_a_card(tmp_path):
    machine = this_machine(tmp_path / "not" / "yet")
    assert machine.disk_bytes > 0
    assert machine.memory_bytes > 0
