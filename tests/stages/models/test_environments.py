"""The models' own environments: where they are, when they count as built, two builders, a builder that died."""

import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stages.models import environments, requirements
from stages.models.environments import ENVS, build, build_command, environments_command, interpreter, is_built, read_environment
from videolift.errors import BackendUnavailable, ConfigError

GOOD = """\
name: toy
dependencies:
  - python=3.11
  - pip
  - pip:
      - numpy==2.0.0
      - kernel==1.2
variables:
  VIDEOLIFT_FROM_SOURCE: kernel
  USE_SYSTEM_EIGEN: "1"
"""
FAKE_UV = """#!/bin/sh
echo "$USE_SYSTEM_EIGEN $@" >> {log}
if [ "$1" = venv ]; then
  mkdir -p "$4/bin"; printf '#!/bin/sh\\nexit 0\\n' > "$4/bin/python"; chmod +x "$4/bin/python"
  sleep {sleep}
else
  exit {status}
fi
"""


@pytest.fixture
def envs(tmp_path):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "toy.yaml").write_text(GOOD)
    return tmp_path / "envs"


@pytest.fixture
def fake_uv(tmp_path, monkeypatch):
    """Installs a stand-in for uv; its log of calls."""

    def install(*, status=0, sleep=0):
        path, log = tmp_path / "uv", tmp_path / "uv.log"
        path.write_text(FAKE_UV.format(log=log, status=status, sleep=sleep))
        path.chmod(0o755)
        monkeypatch.setattr(environments.uv, "find_uv_bin", lambda: str(path))
        return log

    return install


@pytest.mark.parametrize("path", sorted(ENVS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_environment_file_is_a_complete_pinned_conda_file(path):
    environment = read_environment(path.stem)
    assert yaml.safe_load(path.read_text())["name"] == path.stem
    assert any(pin.startswith("numpy==") for pin in environment.pins)
    names = [pin.split("==")[0] for pin in environment.pins]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("pin", ["numpy", "numpy>=2", "moge @ git+https://example.org/moge", "-r other.txt"])
def test_a_loose_pin_is_refused(envs, pin):
    (envs / "toy.yaml").write_text(GOOD.replace("numpy==2.0.0", pin))
    with pytest.raises(ConfigError, match="package==version"):
        read_environment("toy", envs)


def test_an_unknown_environment_is_refused_with_the_known_ones(envs):
    with pytest.raises(ConfigError, match="there are toy"):
        read_environment("tooy", envs)


def test_building_installs_the_list_as_it_stands_and_source_packages_last(envs, tmp_path, fake_uv):
    log = fake_uv()
    python = build("toy", envs_dir=tmp_path / "built", envs=envs)
    venv, wheels, source = log.read_text().splitlines()
    assert venv.startswith("1 venv")
    assert wheels.endswith("--no-deps numpy==2.0.0")
    assert source.endswith("--no-deps --no-build-isolation kernel==1.2")
    assert is_built(python.parents[1])


def test_a_built_environment_is_not_built_again(envs, tmp_path, fake_uv):
    log = fake_uv()
    build("toy", envs_dir=tmp_path / "built", envs=envs)
    before = log.read_text()
    build("toy", envs_dir=tmp_path / "built", envs=envs)
    assert log.read_text() == before


def test_a_changed_file_is_another_environment(envs, tmp_path, fake_uv):
    fake_uv()
    old = build("toy", envs_dir=tmp_path / "built", envs=envs)
    (envs / "toy.yaml").write_text(GOOD.replace("2.0.0", "2.0.1"))
    assert build("toy", envs_dir=tmp_path / "built", envs=envs) != old


def test_a_half_made_environment_is_built_anew(envs, tmp_path, fake_uv):
    fake_uv()
    folder = read_environment("toy", envs).folder(tmp_path / "built")
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("half")
    (folder / "junk").write_text("half")
    assert not is_built(folder)
    build("toy", envs_dir=tmp_path / "built", envs=envs)
    assert is_built(folder)
    assert not (folder / "junk").exists()


def test_a_failed_build_leaves_no_mark_and_no_lease(envs, tmp_path, fake_uv):
    fake_uv(status=7)
    with pytest.raises(BackendUnavailable, match=r"failed \(7\)"):
        build("toy", envs_dir=tmp_path / "built", envs=envs)
    assert not is_built(read_environment("toy", envs).folder(tmp_path / "built"))
    assert not list((tmp_path / "built").glob("*.lock*"))


def test_what_was_downloaded_is_kept_when_compiling_fails(envs, tmp_path, fake_uv):
    log = fake_uv()
    uv = tmp_path / "uv"
    good = uv.read_text()
    uv.write_text(good.replace('if [ "$1" = venv ]', 'case "$*" in *isolation*) exit 7;; esac\nif [ "$1" = venv ]'))
    with pytest.raises(BackendUnavailable, match=r"failed \(7\)"):
        build("toy", envs_dir=tmp_path / "built", envs=envs)
    uv.write_text(good)
    build("toy", envs_dir=tmp_path / "built", envs=envs)
    kinds = ["isolation" if "isolation" in line else line.split()[1] for line in log.read_text().splitlines()]
    assert kinds == ["venv", "pip", "isolation", "isolation"]


@pytest.fixture(autouse=True)
def able_machine(monkeypatch):
    """The toys here are for any machine; what a machine lacks is tested in test_requirements."""
    for problems in (requirements.build_problems, requirements.card_problems):
        monkeypatch.setattr(requirements, problems.__name__, create_autospec(problems, return_value=[]))


def test_two_builders_build_once(envs, tmp_path, fake_uv):
    log = fake_uv(sleep=0.4)
    threads = [
        threading.Thread(target=build, args=("toy",), kwargs={"envs_dir": tmp_path / "built", "envs": envs}) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(line.split()[1] == "venv" for line in log.read_text().splitlines()) == 1


def test_the_lease_of_a_dead_builder_is_taken_over(envs, tmp_path, fake_uv):
    fake_uv()
    folder = read_environment("toy", envs).folder(tmp_path / "built")
    lock = folder.with_name(folder.name + ".lock")
    take = "import os, sys; from pathlib import Path; from videolift.records.leases import Lease"
    subprocess.run([sys.executable, "-c", f"{take}; Lease.acquire(Path(sys.argv[1]), wait_s=0); os._exit(0)", lock], check=True)
    assert lock.exists()
    build("toy", envs_dir=tmp_path / "built", envs=envs)
    assert is_built(folder)


def test_a_builder_whose_lease_was_taken_over_marks_nothing_as_built(envs, tmp_path, fake_uv, monkeypatch):
    fake_uv()
    monkeypatch.setattr(environments.Lease, "still_ours", lambda lease: False)
    with pytest.raises(BackendUnavailable, match="another has begun"):
        build("toy", envs_dir=tmp_path / "built", envs=envs)
    assert not is_built(read_environment("toy", envs).folder(tmp_path / "built"))


def test_an_unbuilt_environment_names_the_command_to_type(tmp_path):
    with pytest.raises(BackendUnavailable, match=f"Type: videolift models build mediapipe --config envs_dir={tmp_path}"):
        interpreter("mediapipe", envs_dir=tmp_path)


def test_the_usual_place_needs_no_option():
    assert build_command("moge", ENVS.parent / "thirdparty" / "envs") == "videolift models build moge"


def test_an_interpreter_of_the_users_is_taken_as_it_is(tmp_path):
    assert interpreter("mediapipe", envs_dir=tmp_path, override=sys.executable) == Path(sys.executable)
    with pytest.raises(BackendUnavailable, match="python:"):
        interpreter("mediapipe", envs_dir=tmp_path, override=str(tmp_path))


def test_the_command_ends_with_exit_code_3_when_uv_fails(tmp_path, fake_uv, capsys):
    fake_uv(status=1)
    assert environments_command(["mediapipe", "--envs-dir", str(tmp_path / "built")]) == 3
    assert "failed" in capsys.readouterr().err


VIPE_NEEDS = """torch torchvision click einops gdown huggingface_hub hydra-core imageio imageio-ffmpeg kornia matplotlib ninja
numpy omegaconf OpenEXR<3.3.0 pydantic>=2,<3 pillow python-pycg ray rerun-sdk safetensors scipy timm tqdm
transformers>=4,<5 viser"""


def test_the_pins_of_vipe_cover_what_its_package_asks_for():
    """nvidia-vipe 1.2.0 cannot be resolved without CUDA; these are its own needs, opencv apart (headless here)."""
    pins = {canonicalize_name(name): version for name, version in (pin.split("==") for pin in read_environment("vipe").pins)}
    for need in map(Requirement, VIPE_NEEDS.split()):
        assert pins[canonicalize_name(need.name)] in need.specifier


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(ENVS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_pin_exists_and_those_that_are_not_built_here_agree_with_each_other(path, tmp_path):
    """Resolves each list as it stands; needs a package index. Only what a file says it leaves out may be missing."""
    environment = read_environment(path.stem)
    left_out = ("nvidia-vipe", "mediapipe", "ultralytics")
    if "UV_TORCH_BACKEND" in environment.variables:
        left_out += ("torch==",)  # PyPI's torch brings CUDA's packages, and PyTorch's own index is not PyPI
    pins = [pin for pin in environment.pins if not pin.startswith(left_out)]
    (tmp_path / "in.txt").write_text("\n".join(pins))
    command = [environments.uv.find_uv_bin(), "pip", "compile", "-q", "--python-version", "3.11", "--no-header", "--no-annotate"]
    solved = subprocess.run([*command, str(tmp_path / "in.txt")], capture_output=True, text=True, check=True).stdout
    assert sorted(solved.lower().split()) == sorted(pin.lower() for pin in pins)
