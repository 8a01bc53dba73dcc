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
from videolift.inputs.catalog import shard_of

SHARDS = 4


@pytest.fixture
def project(tmp_path) -> Project:
    return make_project(tmp_path / "project", videos=12, seconds=0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_four_shards_merged_are_the_one_run_and_again_after_one_grew(project, tmp_path):
    def run(*settings: str) -> None:
        assert project.run("--config", *settings, timeout=600) == 0, project.terminal()

    def run_shard(shard: int) -> Path:
        run(f"shards={SHARDS}", f"shard={shard}", f"output=shard-{shard}")
        return project.folder / f"shard-{shard}"

    def is_the_one_run() -> None:
        merged = {name: data for name, data in published_bytes(out).items() if name != "merged.json"}
        assert merged == published_bytes(project.output / "h5_dataset")
        assert [finding for finding in verify_path(out) if finding.check in ("shard", "index", "statistics", "bytes")] == []

    out = tmp_path / "merged"
    outputs = [run_shard(shard) for shard in range(SHARDS)]
    run("output=output")
    merge_datasets(out, outputs[::-1])
    is_the_one_run()
    (project.folder / "videos" / "new.mp4").write_bytes(b"another video" * 300)
    run_shard(shard_of("new", SHARDS))
    run("output=output")
    merge_datasets(out, [])
    is_the_one_run()


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
