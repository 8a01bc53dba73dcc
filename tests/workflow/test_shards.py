"""Runs that share the videos, merged, are the one run over all of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from harness import ROOT, Project, make_project

from tests.videolift.dataset.publish.test_publish import published_bytes
from videolift.dataset.publish import merge_datasets
from videolift.dataset.verify import verify_path

SHARDS = 4


@pytest.fixture
def project(tmp_path) -> Project:
    return make_project(tmp_path / "project", videos=12, seconds=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_four_shards_merged_are_the_one_run_and_again_after_one_grew(project, tmp_path):
    def run_all() -> list[Path]:
        outputs = []
        for shard in range(SHARDS):
            code = project.run("--config", f"shards={SHARDS}", f"shard={shard}", f"output=shard-{shard}", timeout=900)
            assert code == 0, project.terminal()
            outputs.append(project.folder / f"shard-{shard}")
        assert project.run(timeout=900) == 0, project.terminal()
        return outputs

    out = tmp_path / "merged"
    for _ in range(2):
        outputs = run_all()
        merge_datasets(out, outputs[::-1])
        merged = {name: data for name, data in published_bytes(out).items() if name != "merged.json"}
        assert merged == published_bytes(project.output / "h5_dataset")
        assert [finding for finding in verify_path(out) if finding.check in ("shard", "index", "statistics", "bytes")] == []
        (project.folder / "videos" / "new.mp4").write_bytes(b"another video" * 300)


def test_a_task_of_an_array_runs_its_shard_in_a_folder_of_its_own(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    python.chmod(0o755)
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "2", "SLURM_SUBMIT_DIR": str(tmp_path)}
    environment |= {"VIDEOLIFT_CHECKOUT": str(ROOT), "VIDEOLIFT_PYTHON": str(python)}
    command = ["bash", str(ROOT / "videolift.sbatch"), "--config", "shards=4", "videos=/data"]
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    called = (tmp_path / "called").read_text().splitlines()[-1]
    assert called.endswith(f"--config shard=2 shards=4 videos=/data --directory {tmp_path}/shard-2")
    assert (tmp_path / "shard-2").is_dir()
    said = subprocess.run(command[:2], env=environment, check=False, capture_output=True, text=True)
    assert (said.returncode, "an array needs --config shards=N" in said.stderr) == (2, True)
