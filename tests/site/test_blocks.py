"""Every block of the documentation is carried out by a test, here or where `ELSEWHERE` says, or `NOT_RUN` says why none does."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from typer.testing import CliRunner

from tests.site.error_texts import ROOT
from tests.videolift.reader.conftest import artifacts, dataset_folder, two_groups  # noqa: F401
from tests.videolift.report.conftest import output, run_output, truth  # noqa: F401
from tests.videos import moving_pattern, write_video
from videolift.cli import app, checkout
from videolift.paths import Layout
from videolift.records.batches import Assignment

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
READER = "tests/videolift/reader"
ELSEWHERE = {
    "README.md: # renders four sample clips": ".ci/run",
    "README.md: from videolift.reader": f"{READER}/test_examples.py::test_the_example_in_the_readme_runs",
    "calibration.md: {": "tests/videolift/inputs/test_lens.py::test_the_example_of_the_docs_is_read",
    "commands.md: Usage:": "tests/test_commands_doc.py::test_the_page_of_commands_says_what_the_commands_say",
    "extending.md: ": "tests/test_extending.py::test_a_depth_backend_is_one_file_and_changes_none_of_ours",
    "format.md: from videolift.reader": f"{READER}/test_examples.py::test_the_example_in_the_docs_runs",
    "models.md: videolift models": "tests/stages/models/test_models_page.py::test_every_command_of_the_page_exists",
    "pool.md: import sys": "tests/videolift/pool/test_pool_parts.py::test_the_example_of_the_docs_runs",
    "training.md: videolift export": "tests/site/test_blocks.py::test_the_commands_of_a_block_run",
    "training.md: - {name: lab": f"{READER}/test_training_page.py::test_its_mixture_is_read",
    "videos.md: video,path": "tests/videolift/inputs/test_table.py::test_the_example_of_the_docs_is_read",
}
"""Page and first words of a block (none: every block of the page) to the test that carries it out."""
NOT_RUN = {
    "it installs or downloads from the network": r"pip install|models (install|build)|^import torch$",
    "it takes a cluster; tests/slurm runs the workflow on one": r"sbatch|slurm_partition|/scratch/|shard-|shards=",
    "it takes minutes; .ci/run lifts the sample, tests/test_wheel.py plans it": r"videolift run |^snakemake|doctor --run",
    "it goes on until the run ends; tests/videolift/report/test_progress.py follows one": r"status .*--watch",
    "it opens a window; the same file is written with --save": r"^videolift view VIDEO *$",
    "tests/videolift/report/test_audit_sheet.py saves marks in a browser and takes them in": r"audit --marks",
    "tests/videolift/records/test_camera_clips.py has clips of one camera": r"videolift calibrate",
    "tests/workflow/test_import.py has files of the predecessor": r"videolift import",
    "a file of another kind: a picture, a setting, or what a run prints": r"^(Snakefile, config|video - ingest|4 in = 4|helmet-3)",
    "tests/videolift/reader/test_training_page.py runs it with torch": r"videolift\.reader|torch|open_samples|Ingredient",
}
"""Why no test here runs a block or a line of it, and what is found in those."""


def blocks() -> Iterator[tuple[str, str, str]]:
    """Page, language and text."""
    for page in PAGES:
        for language, text in re.findall(r"^ *```(\w*)\n(.*?)^ *```", page.read_text(encoding="utf-8"), flags=re.S | re.M):
            yield page.name, language, text


def reason(text: str) -> str | None:
    """Why nothing runs it here."""
    return next((why for why, pattern in NOT_RUN.items() if re.search(pattern, text, re.M)), None)


def commands(text: str) -> list[str]:
    """Lines of videolift in a shell block that are run here, each once."""
    typed = [line.partition("  #")[0].strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in dict.fromkeys(typed) if line.startswith("videolift ") and reason(line) is None]


SHELL = [(f"{page}: {text.splitlines()[0]}", commands(text)) for page, language, text in blocks() if language == "sh"]


def test_every_block_is_run_or_says_why_not():
    unknown = []
    for page, language, text in blocks():
        known = any(f"{page}: {text.lstrip()}".startswith(start) for start in ELSEWHERE)
        here = (language == "sh" and commands(text)) or text.startswith(("sqlite3 ", "import sqlite3"))
        if not known and not here and reason(text) is None:
            unknown.append(f"{page}: {text.splitlines()[0]}")
    assert unknown == []


def test_what_is_said_to_run_elsewhere_does():
    for start, where in ELSEWHERE.items():
        path, _, name = where.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text() if name else "README.md" in (ROOT / path).read_text(), where
        assert any(f"{page}: {text.lstrip()}".startswith(start) for page, _, text in blocks()), f"no block begins so: {start}"
    for why in NOT_RUN:
        for path in re.findall(r"tests/[\w/.]+\.py|\.ci/run", why):
            assert (ROOT / path).exists(), why


@pytest.fixture(scope="module")
def folder(run_output, dataset_folder, two_groups, tmp_path_factory):  # noqa: F811
    """A folder with a finished run, other datasets and a folder of videos, by the names that the pages use."""
    folder = tmp_path_factory.mktemp("blocks")
    shutil.copytree(run_output, folder / "dataset")
    (folder / "dataset" / "excluded.json").write_text('{"gone": "wrong person"}')
    Assignment(dict.fromkeys(("pick", "broken", "waiting", "gone"), 0)).append_new(Layout(folder / "dataset").assignment)
    for name, other in (("january", dataset_folder), ("february", two_groups)):
        shutil.copytree(other, folder / name / "h5_dataset")
    (folder / "my_videos").mkdir()
    write_video(folder / "my_videos" / "one.mp4", moving_pattern(20, 128, 96))
    return folder


EXIT_CODES = {"status": 1, "doctor --config preset=gpu": 3, "models check": 3, "verify dataset/h5_dataset --deep": 1}
"""Where it is not 0: the run has lost a video, nothing is installed, and a clip of 34 frames is too short to look right."""
VIDEOS = {"retry": "broken", "include": "gone"}
"""What VIDEO stands for, where it is not `pick`."""


def in_this_process(module, arguments):
    """In place of what would take the process over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *arguments])
        runpy.run_module(module, run_name="__main__", alter_sys=True)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules after import of package")
@pytest.mark.parametrize("lines", [pytest.param(lines, id=name) for name, lines in SHELL if lines])
def test_the_commands_of_a_block_run(lines, folder, tmp_path, monkeypatch):
    here = shutil.copytree(folder, tmp_path / "here")
    if not lines[0].startswith("videolift plan"):  # one plans before the first run
        (here / "output").symlink_to("dataset")
    monkeypatch.chdir(here)
    monkeypatch.setattr(checkout, "hand_over", in_this_process)
    for line in lines:
        if line.endswith(".rrd"):
            pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra view)")
        typed = line.removeprefix("videolift ").replace("~/my_dataset", "dataset")
        done = CliRunner().invoke(app, shlex.split(typed.replace("VIDEO", VIDEOS.get(typed.split()[0], "pick"))))
        wanted = next((code for start, code in EXIT_CODES.items() if typed.startswith(start)), 0)
        assert done.exit_code == wanted, f"{line}\n{done.output}{done.exception or ''}"


def test_the_queries_of_the_index_run(dataset_folder, tmp_path, monkeypatch):  # noqa: F811
    queries = [text for page, _, text in blocks() if page == "format.md" and "sqlite3" in text]
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "h5_dataset").symlink_to(dataset_folder)
    monkeypatch.chdir(tmp_path)
    typed, code = queries
    program, file, query = shlex.split(typed)
    assert program == "sqlite3"
    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as index:
        assert index.execute(query).fetchall()
    exec(code, {})
