"""Stages as the workflow takes them from the table: one that is left out, and a run stopped before it began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from harness import ROOT, make_project

INTERRUPTED = """
import os, signal, sys, time
from stages.engine import plan

def interrupted(*arguments, **options):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

{where} = interrupted
from snakemake.cli import main
main(["-s", sys.argv[1], "--cores", "1"])
"""


def test_a_stage_that_is_left_out_submits_no_job_and_the_rest_is_packaged(tmp_path):
    project = make_project(tmp_path / "project", videos=1, seconds=0, hands={"backend": "none"})
    assert project.run() == 0, project.terminal()
    assert "hands_batch" not in project.terminal()
    assert "1 in = 1 done" in project.terminal()
    assert {stage for stage, _ in project.begun()} == {"ingest", "depth", "tracks", "create_h5"}
    assert project.run("-n") == 0
    assert "nothing to do" in project.terminal().rsplit("videolift:", 1)[-1]


def test_what_a_left_out_stage_reads_is_still_waited_for(tmp_path):
    left_out = {"backend": "none"}
    project = make_project(tmp_path / "project", videos=1, seconds=0, depth=left_out, tracks=left_out, required=[])
    assert project.run() == 0, project.terminal()
    assert [stage for stage, _ in project.begun()] == ["ingest", "hands", "create_h5"]


@pytest.mark.parametrize("where", ["plan.make_plan", "plan.Plan.write"])
def test_ctrl_c_before_the_start_says_one_sentence(tmp_path, where):
    project = make_project(tmp_path / "project", videos=1, seconds=0)
    command = [sys.executable, "-c", INTERRUPTED.format(where=where), str(ROOT / "Snakefile")]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=project.folder, env=environment, text=True, capture_output=True)
    assert done.returncode == 130
    assert "interrupted before anything was started" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in project.output.rglob("*") if path.is_file()]
    assert not [*(project.folder / ".snakemake" / "locks").glob("*")], "the next run need not ask for --unlock"


def test_ctrl_c_right_after_videolift_run_says_one_sentence_too(tmp_path):
    project = make_project(tmp_path / "project", videos=1, seconds=0)
    command = [sys.executable, "-m", "videolift", "run", "videos", "--cores", "1"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, cwd=project.folder, env=environment, text=True, stderr=subprocess.PIPE) as run:
        # Said right before Snakemake takes this process's place, which then imports for a second.
        first = run.stderr.readline()
        run.send_signal(signal.SIGINT)
        said = first + run.stderr.read()
    assert run.returncode == 130
    assert "interrupted before anything was started" in said
    assert "Traceback" not in said
    assert not project.output.exists()


@pytest.mark.parametrize(("program", "imported"), [("videolift", "typer"), ("stages", "h5py")])
def test_ctrl_c_while_a_program_of_ours_is_importing_ends_it_without_lines_of_code(tmp_path, program, imported):
    (tmp_path / f"{imported}.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-m", program, "--help"], env=environment, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
