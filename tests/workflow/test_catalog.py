"""The workflow keeps the standard of Snakemake's catalog, and can be a module of another one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml
from harness import FIXTURES, ROOT, STAGES, make_project

PYTHON_PACKAGE = (
    "Specify a conda environment or container for each rule",
    "rules run this package with the interpreter of snakemake; models' environments are built by the rule environment",
)
TARGETS = (
    "No log directive defined",
    "targets without output print the verdict, which belongs on the terminal",
)
ONE_FILE = (
    "Mixed rules and functions in same snakefile",
    "the four lines of functions are what all rules share; decisions are in stages/engine",
)
ACCEPTED = {
    **{f"rule {name}": {PYTHON_PACKAGE} for name in ("sample", "environment", "statistics")},
    **{f"rule {stage}_batch": {PYTHON_PACKAGE} for stage in (*STAGES, "masks")},
    **{f"rule {name}": {PYTHON_PACKAGE, TARGETS} for name in ("all", "masks", *STAGES)},
    "snakefile common.smk": {ONE_FILE},
}
"""Where `snakemake --lint` finds something: each finding that stays, with its reason."""
AROUND = """
configfile: "config.yaml"

module videolift:
    snakefile:
        "{snakefile}"
    config:
        config["lift"]

use rule * from videolift as lift_*

onstart:
    videolift.onstart()

onerror:
    videolift.onerror()

rule train:
    default_target: True
    input:
        rules.lift_all.input,
    output:
        "trained.txt",
    shell:
        "ls output/h5_dataset/*.hdf5 > {{output}}"
"""


def test_every_finding_of_lint_is_accepted_with_a_reason():
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--lint"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    found: dict[str, set[str]] = {}
    for line in (done.stdout + done.stderr).splitlines():
        if about := re.match(r"Lints for (rule|snakefile) ([^ :]+)", line):
            here = found.setdefault(f"{about[1]} {Path(about[2]).name}", set())
        elif line.startswith("    * "):
            here.add(line[6:].removesuffix(":").removesuffix("."))
    assert found == {where: {finding for finding, _ in accepted} for where, accepted in ACCEPTED.items()}


def test_the_catalog_finds_what_it_looks_for():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert {"mandatory-flags", "software-stack-deployment", "report"} == set(usage)
    assert (ROOT / "workflow" / "Snakefile").is_file()
    assert "config.yaml" in (ROOT / "config" / "README.md").read_text()


def test_another_workflow_takes_this_one_as_a_module(tmp_path):
    """Its settings are under a key there, its jobs see them, and a rule of the other workflow gets what it makes."""
    project = make_project(tmp_path / "project", videos=1, seconds=0)
    settings = yaml.safe_load((project.folder / "config.yaml").read_text())
    assert settings["ingest"]["backend"].startswith(str(FIXTURES))
    (project.folder / "config.yaml").write_text(json.dumps({"lift": settings}))
    (project.folder / "Snakefile").write_text(AROUND.format(snakefile=ROOT / "workflow" / "Snakefile"))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--rerun-triggers", "mtime", "input"]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "VIDEOLIFT_TEST_LOG": str(project.log),
        "VIDEOLIFT_TEST_SECONDS": "0",
    }
    done = subprocess.run(command, cwd=project.folder, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project.folder / "trained.txt").read_text() == "output/h5_dataset/clip0.hdf5\n"
