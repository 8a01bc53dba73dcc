"""What is installed: the base is the reader alone, and the workflow is data of the package, never a top-level `stages`."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).parents[1]
BASE = ("numpy", "h5py", "hdf5plugin", "yaml")
WITHOUT_EXTRAS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in ("videolift", "encodings", *{base}, *sys.stdlib_module_names) and path is None:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, unpacked as pip does it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([uv.find_uv_bin(), "build", "-q", "--wheel", "-o", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site-packages")
    return folder / "site-packages"


def run_installed(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(installed), "PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_one_package_and_all_that_a_run_needs(installed):
    assert sorted(p.name for p in installed.iterdir() if p.suffix != ".dist-info") == ["videolift"]
    workflow = installed / "videolift" / "_workflow"
    listed = subprocess.run(["git", "ls-files", "stages", "workflow", "envs", "profiles"], cwd=ROOT, capture_output=True, text=True)
    wanted = ["Snakefile", "config.yaml", "thirdparty/models.yaml", *listed.stdout.split()]
    assert [name for name in wanted if not (workflow / name).is_file()] == []
    assert not list(workflow.rglob("__pycache__"))


def test_an_installed_workflow_plans_a_run_in_an_empty_folder(installed, tmp_path):
    done = run_installed(installed, tmp_path, "-m", "videolift", "run", "sample", "-o", "dataset", "-n", "-q")
    assert done.returncode == 0, done.stderr
    assert "4 videos" in done.stderr
    assert str(installed / "videolift" / "_workflow" / "Snakefile") in done.stderr
    assert not (tmp_path / "dataset").exists()


def test_an_installed_workflow_keeps_models_in_the_cache_and_not_beside_the_code(installed, tmp_path):
    done = run_installed(installed, tmp_path, "-m", "videolift", "models", "check", "--config", "preset=gpu")
    assert done.returncode == 3, done.stderr
    assert str(tmp_path / "cache" / "videolift") in done.stdout


def test_the_base_reads_and_its_command_says_what_else_to_install(installed, tmp_path):
    without = WITHOUT_EXTRAS.format(base=BASE)
    done = run_installed(installed, tmp_path, "-c", without + "import videolift.reader; print(videolift.__file__)")
    assert done.returncode == 0, done.stderr
    assert str(installed) in done.stdout
    done = run_installed(installed, tmp_path, "-c", without + "from videolift.__main__ import start; start()")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "pip install 'videolift[run]'" in done.stderr


@pytest.mark.slow
def test_the_base_imports_with_the_oldest_python_that_it_allows(installed, tmp_path):
    find = [uv.find_uv_bin(), "python", "find", "--no-python-downloads", "3.10"]
    found = subprocess.run(find, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("there is no Python 3.10 here")
    (wheel,) = installed.parent.glob("*.whl")
    subprocess.run([uv.find_uv_bin(), "venv", "-q", "--python", found.stdout.strip(), str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv.find_uv_bin(), "pip", "install", "-q", "--python", str(python), str(wheel)], check=True)
    done = subprocess.run([python, "-c", "import videolift.reader"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
