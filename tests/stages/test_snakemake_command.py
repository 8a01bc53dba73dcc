"""What ``videolift run`` starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stages.registry import ROOT
from stages.snakemake_command import snakemake_command

START = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]


def test_the_short_form_fills_in_the_snakefile_and_all_cores():
    assert snakemake_command(["clips", "-o", "out"]) == [*START, "--cores", "all", "--config", "videos=clips", "output=out"]


def test_settings_and_what_only_snakemake_knows_are_handed_on():
    given = ["clips", "-c", "4", "-n", "--rerun-triggers", "mtime", "--config", "preset=gpu", "tracks={stride: 2}"]
    command = [*START, "--cores", "4", "-n", "--rerun-triggers", "mtime"]
    assert snakemake_command(given) == [*command, "--config", "videos=clips", "preset=gpu", "tracks={stride: 2}"]


def test_a_shipped_profile_is_found_by_its_name_and_leaves_the_cores_of_jobs_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = snakemake_command(["clips", "--workflow-profile", "profiles/slurm"])
    assert command == [*START, "--workflow-profile", str(ROOT / "profiles/slurm"), "--config", "videos=clips"]
    (tmp_path / "profiles" / "slurm").mkdir(parents=True)
    assert snakemake_command(["clips", "--workflow-profile", "profiles/slurm"])[6] == "profiles/slurm"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["vidoes"], "videos is 'vidoes': there is no folder or CSV at"),
        (["2024"], "no videos in"),  # a number to YAML, a folder to us
        (["sample", "-o", "a_file/out"], "a_file is no folder: choose another one"),
    ],
)
def test_a_mistake_ends_in_one_sentence_without_lines_of_code(tmp_path, given, sentence):
    (tmp_path / "2024").mkdir()
    (tmp_path / "a_file").touch()
    command = [sys.executable, "-m", "videolift", "run", *given]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(Path(ROOT))}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("videolift: ")
    assert sentence in last
    assert 'File "' not in done.stderr
