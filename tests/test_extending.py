"""docs/extending.md holds: each recipe is carried out as it stands there, in a copy of the tree."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from videolift.artifacts import Depth

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
TREE = (
    "videolift",
    "stages",
    "workflow",
    "profiles",
    "envs",
    "Snakefile",
    "config.yaml",
    "pyproject.toml",
    "thirdparty/models.yaml",
)
FIXTURES = ROOT / "tests" / "fixtures"
STEP = re.compile(r"\*\*`([^`]+)`\*\*([^\n]*)\n```\w+\n(.*?)```", re.S)


@dataclass
class Copy:
    """A copy of the tree, and a folder with a video to work on."""

    root: Path
    project: Path

    def follow(self, recipe: str) -> tuple[list[str], list[str]]:
        """Carries a recipe out; the files it adds, and those of ours that it changes."""
        added, changed = [], []
        section = PAGE.partition(f"\n## {recipe}\n")[2].partition("\n## ")[0]
        for name, how, text in STEP.findall(section):
            path = self.root / name
            if "before" in how:
                named = re.search("`(.*)`", how)[1]
                place = f'    StageSpec(\n        name="{named}",' if "before the row" in how else f"\n{named}"
                self.replace(path, place, place.removesuffix(place.lstrip("\n")) + text + place.lstrip("\n"))
            elif "instead of" in how:
                for line in text.splitlines():
                    self.replace(path, re.search(f"^{re.escape(line[:12])}.*$", path.read_text(), re.M)[0], line)
            else:
                assert not path.exists(), name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            (changed if how.strip() else added).append(name)
        return added, changed

    def replace(self, path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert text.count(old) == 1, (path, old)
        path.write_text(text.replace(old, new))

    def run(self, *command: str) -> str:
        """Output of a command of the copy, run in the project; it must succeed."""
        environment = {**os.environ, "PYTHONPATH": str(self.root), "VIDEOLIFT_TEST_SECONDS": "0"}
        done = subprocess.run([sys.executable, *command], cwd=self.project, env=environment, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def snakemake(self, *arguments: str, **settings: object) -> str:
        """A run of the copy's workflow on the quick backends of the fixtures, except where ``settings`` name others."""
        quick = {
            stage: {"backend": str(FIXTURES / f"quick_{stage}.py")} for stage in ("ingest", "depth", "tracks", "hands", "create_h5")
        }
        (self.project / "config.yaml").write_text(yaml.safe_dump({"videos": "videos", "output": "output", **quick, **settings}))
        return self.run("-m", "snakemake", "-s", str(self.root / "Snakefile"), "--cores", "1", *arguments)


@pytest.fixture
def copy(tmp_path):
    for name in TREE:
        target = tmp_path / "copy" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    videos = tmp_path / "project" / "videos"
    videos.mkdir(parents=True)
    (videos / "clip.mp4").write_bytes(bytes(range(256)) * 20)
    return Copy(tmp_path / "copy", tmp_path / "project")


def test_a_depth_backend_is_one_file_and_changes_none_of_ours(copy):
    assert copy.follow("A depth backend") == (["stages/depth/wall.py"], [])
    copy.snakemake("depth", depth={"backend": "wall", "wall": {"distance_m": 2}})
    with Depth(copy.project / "output/depth/clip.h5") as depth:
        assert (np.asarray(depth[:]) == 2).all()
    assert "distance_m: 1.0                  # metres to the wall" in copy.run("-m", "stages.config_yaml")


MODEL = """
import sys
from pathlib import Path
import numpy as np
from stages.backend import Inputs
from stages.registry import make_backend
from stages.settings import stage_block
from videolift.artifacts import Clip, ClipWriter, Depth, DepthWriter
from videolift.inputs.video import Video
from videolift.pool import cpu_device

frames, out = ClipWriter(Path("clip.h5")), DepthWriter(Path("depth.h5"))
frames.append_frames(np.full((20, 8, 8, 3), 255), np.arange(20) / 10)
frames.describe(fps=10.0, source={})
block = stage_block("depth", backend="brightness", brightness={"python": sys.executable, "farthest_m": 3})
backend = make_backend("depth", block)
backend.load(cpu_device(1))
with Clip(frames.publish().path) as clip:
    backend.process(Inputs(Video("v", "v.mp4"), clip=clip), out, shrink=1.0, progress=lambda done, total: None)
backend.close()
with Depth(out.publish().path) as depth:
    print(depth[:].shape, round(float(depth[0].max()), 2), backend.about["model"])
"""


def test_a_model_in_its_own_interpreter_is_a_backend_a_worker_and_an_environment(copy):
    added, changed = copy.follow("A model in its own interpreter")
    assert (added, changed) == (["stages/depth/brightness.py", "stages/depth/brightness_worker.py", "envs/brightness.yaml"], [])
    assert copy.run("-c", MODEL).splitlines()[-1] == "(20, 8, 8) 0.03 brightness 1"
    lacking = copy.run(
        "-c",
        "from stages.models.preflight import missing; from stages.settings import stage_block;"
        "print(*missing([('depth', stage_block('depth', backend='brightness').in_folders('w', 'e'))]))",
    )
    assert "videolift models build brightness" in lacking


def test_a_stage_is_a_row_and_a_few_new_files(copy):
    added, changed = copy.follow("A stage")
    assert changed == ["videolift/stage_table.py"]
    assert len(added) + len(changed) <= 10
    said = copy.snakemake()
    assert "1 in = 1 done" in said
    assert "captions   nothing to do" in copy.snakemake("-n")
    assert (copy.project / "output/captions/clip.h5").is_file()
    assert "captions" in copy.run("-m", "snakemake", "-s", str(copy.root / "Snakefile"), "--list")
    (test,) = [name for name in added if name.startswith("tests/")]
    copy.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(copy.root), str(copy.root / test))


def test_a_dataset_profile_is_a_class_and_its_name_and_a_score_a_row_and_the_line_that_measures_it(copy):
    assert copy.follow("A dataset profile") == ([], ["videolift/dataset/profiles.py"] * 2)
    assert copy.follow("A score") == ([], ["videolift/dataset/quality.py"] * 2)
    said = copy.snakemake(create_h5={"backend": str(FIXTURES / "quick_create_h5.py"), "profile": "compact", "size": 48})
    assert "1 in = 1 done" in said
    with h5py.File(copy.project / "output/h5_dataset/clip.hdf5") as file:
        assert (file.attrs["profile"].decode(), file["tracks/displacement"].dtype) == ("compact", np.int16)
        measured = json.loads(file.attrs["quality"].decode().removeprefix("json:"))["nearest_depth"]
        assert (measured["unit"], measured["value"] > 0) == ("m", True)
        assert file["quality/nearest_depth"].shape == (len(file["depth"]),)
    with sqlite3.connect(copy.project / "output/h5_dataset/index.sqlite") as index:
        assert index.execute("SELECT quality_nearest_depth FROM video").fetchall() == [(measured["value"],)]


def test_a_command_is_a_module_and_its_name(copy):
    added, changed = copy.follow("A command")
    assert (added, changed) == (["videolift/cli/counting.py"], ["videolift/cli/__init__.py"])
    (copy.project / "output/depth").mkdir(parents=True)
    (copy.project / "output/depth/clip.h5").touch()
    assert "depth: 1" in copy.run("-c", "from videolift.cli import main; main()", "count", "--output", "output")
