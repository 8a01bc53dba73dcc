"""What must not start says so before any work, with the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import yaml
from harness import ROOT, Project, make_project


def project_with(folder, **settings) -> Project:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return Project(folder, seconds=0)


def test_the_gpu_preset_without_a_gpu_stops_before_any_work_but_shows_its_plan(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    project = project_with(tmp_path, videos="sample", output="output", preset="gpu", models_dir=str(tmp_path / "none"))
    assert project.run("-n", "-q") == 0
    assert "tracks     4 to do" in project.terminal()
    assert project.run() == 1
    text = project.terminal()
    assert "this run cannot start" in text
    assert "videolift models install tapip3d" in text
    assert not project.output.exists()


def test_an_empty_folder_and_a_wrong_key_are_errors_that_name_them(tmp_path):
    (tmp_path / "nothing").mkdir()
    project = project_with(tmp_path, videos="nothing", output="output")
    assert project.run() == 1
    assert "no videos in" in project.terminal()
    assert project.run("--config", "trakcs={stride: 2}") == 1
    assert "did you mean tracks" in project.terminal()
    (project.folder / "config.yaml").write_text("videos: sample\nseed: 1\nseed: 2\n")
    assert project.run("-n") == 1
    assert "the key 'seed' stands twice" in project.terminal()


def test_a_second_run_waits_for_the_lease_and_ends_with_code_5(tmp_path):
    from videolift.paths import Layout
    from videolift.records.leases import Lease

    project = make_project(tmp_path / "project", videos=1, seconds=0, lease_wait_s=0)
    with Lease.acquire(Layout(project.output).lease("ingest", "0000"), wait_s=0):
        assert project.run() == 1
    assert "batch ingest/0000 is being worked on by pid" in project.terminal()
    run = next((project.output / "runs").glob("*/plan.json")).parent
    with Lease.acquire(Layout(project.output).lease("ingest", "0000"), wait_s=0):
        command = [sys.executable, "-m", "stages", "ingest", "--run", str(run), "--batch", "0000", "--token", "0" * 12]
        command += ["--generation", "0", "--manifest", str(tmp_path / "m.json"), "--cores", "1"]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == 5


def test_a_second_run_says_for_whom_it_waits_and_goes_on(tmp_path):
    from videolift.paths import Layout
    from videolift.records.leases import Lease

    project = make_project(tmp_path / "project", videos=1, seconds=0)
    with Lease.acquire(Layout(project.output).lease("ingest", "0000"), wait_s=0):
        head = project.start()
        until = time.monotonic() + 240
        while f"batch ingest/0000 is being worked on by pid {os.getpid()}" not in project.terminal():
            assert time.monotonic() < until, project.terminal()
            time.sleep(0.05)
    assert head.wait(240) == 0, project.terminal()
