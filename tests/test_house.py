"""The house: light to enter, no arrow upwards, nothing of the machine it was built on, rooms of a size."""

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from videolift.stage_table import STAGES

ROOT = Path(__file__).parents[1]

FLOORS = (
    "errors geometry shot_ranges carried_facts paths processes hdf5_output store stage_table typical_work plain_yaml fast_json "
    "interrupts config isolation pool",
    "inputs artifacts",
    "records evaluation h264",
    "dataset",
    "reader export y2r report cli __main__",
)
"""Rooms of the library by floor; one imports from its own floor and those below."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS, 1) for room in rooms.split()}

HEAVY = ("torch", "snakemake", "pycolmap", "mediapipe", "rerun", "pulp", "pandas", "matplotlib")
"""What importing the library must not bring in."""
BUILT = re.compile(
    r"^(\.venv|output|thirdparty/(envs|weights|checkouts))|(^|/)(__pycache__|\.[a-z]+_cache|\.snakemake|[^/]*\.egg-info)/"
)
"""Paths that .gitignore names, where there is no git to ask."""


def _all_names() -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*")]


@cache
def tracked() -> tuple[Path, ...]:
    """Files of the repository; without git, every file that is no build product."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.splitlines() if listed.returncode == 0 else [name for name in _all_names() if not BUILT.search(name)]
    return tuple(ROOT / name for name in names if (ROOT / name).is_file())


def modules(*folders: str) -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders]


@cache
def source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(source(path))))


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names of what a module imports, at its top and inside functions, for type checkers only included."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def room(dotted: str) -> str | None:
    """The room of a dotted name of ours, None for the package itself and for what is not ours."""
    parts = dotted.split(".")[1:]
    return next((name for name in parts[:1] if name in FLOOR), None) if dotted.startswith("videolift.") else None


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_library_takes_less_than_a_third_of_a_second():
    code = "import time; t = time.process_time(); import videolift; print(time.process_time() - t)"
    assert min(float(run_python(code)) for _ in range(3)) < 0.3


def test_no_module_of_the_library_brings_in_a_model_or_the_workflow_engine():
    names = [dotted(path) for path in modules("videolift")]
    optional = {
        "videolift.reader.torch_dataset",
        "videolift.reader.torch_augment",
        "videolift.report.rerun_file",
    }  # the extras train and view
    code = f"import importlib, sys\nfor name in {sorted(set(names) - optional)}: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = {name.split(".")[0] for name in run_python(code).split()}
    assert loaded.isdisjoint({*HEAVY, "stages"})


def test_the_process_that_plans_a_run_opens_no_picture_and_brings_in_neither_a_decoder_nor_a_model():
    # The configuration asks every backend who it is, whichever it names; a login node has to bear the memory of all.
    names = [f"stages.engine.{name}" for name in ("session", "plan", "plan_report", "cluster", "job_graph", "queue_watch")]
    code = (
        f"import importlib, sys\nfor name in {[*names, 'stages.models.preflight']}: importlib.import_module(name)\n"
        "from stages.settings import config_model\nconfig_model()\nprint(*sys.modules)"
    )
    loaded = {name.split(".")[0] for name in run_python(code).split()}
    assert loaded.isdisjoint({*HEAVY, "av", "PIL"})


def test_every_room_has_a_floor():
    rooms = {dotted(path) for path in modules("videolift")} - {"videolift"}
    assert not [name for name in rooms if room(name) is None], "give them a floor in FLOORS, and in docs/design.md"


def test_no_arrow_runs_up():
    up = []
    for path in modules("videolift"):
        here = room(dotted(path))
        above = {name for name in imports(path) if (there := room(name)) and here and FLOOR[there] > FLOOR[here]}
        up += [f"{path.relative_to(ROOT)} imports {name}" for name in sorted(above)]
    assert up == []


def test_no_arrows_run_in_a_circle():
    arrows: dict[str, set[str]] = {}
    for path in modules("videolift"):
        here = room(dotted(path))
        if here:
            arrows.setdefault(here, set()).update(there for name in imports(path) if (there := room(name)) not in (None, here))
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(f"rooms import each other: {' -> '.join(error.args[1])}")


def test_the_library_knows_no_stage():
    assert not [path for path in modules("videolift") for name in imports(path) if name.split(".")[0] in ("stages", "workflow")]


NOT_FOR_BACKENDS = ("snakemake", "videolift.paths", "videolift.records", "stages.engine", "stages.registry")


def test_a_backend_knows_no_queue_no_output_folder_and_no_snakemake():
    backends = [path for path in modules("stages") if path.relative_to(ROOT).parts[1] in STAGES]
    assert backends
    known = {(path.name, name) for path in backends for name in imports(path) if name.startswith(NOT_FOR_BACKENDS)}
    pool = {(path.name, name) for path in backends for name in imports(path) if name.startswith("videolift.pool")}
    assert known == set()
    assert {name for _, name in pool} <= {"videolift.pool.Device"}


def test_the_pool_knows_no_video():
    known = {name for path in modules("videolift") if room(dotted(path)) == "pool" for name in imports(path)}
    assert {there for name in known if (there := room(name)) not in (None, "pool")} <= {"errors", "store", "config", "processes"}


def function_lines(path: Path) -> dict[str, int]:
    """Lines of every function, its docstring aside."""
    lines = {}
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            lines[f"{node.name}, line {node.lineno}"] = (
                node.end_lineno - node.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)
            )
    return lines


def test_modules_and_functions_keep_their_size():
    long = []
    for path in modules("videolift", "stages", "workflow"):
        name, length = path.relative_to(ROOT), source(path).count("\n")
        long += [f"{name}: {length} lines, at most 450"] if length > 450 else []
        long += [
            f"{name}: {function} has {lines} lines, at most 70" for function, lines in function_lines(path).items() if lines > 70
        ]
    assert long == []


def test_the_median_module_and_function_are_small():
    paths = [path for path in modules("videolift", "stages") if path.name != "__init__.py"]
    assert statistics.median(source(path).count("\n") for path in paths) <= 200
    assert statistics.median(lines for path in paths for lines in function_lines(path).values()) <= 12


def test_every_module_says_what_it_is_for():
    silent = [path for path in modules("videolift", "stages") if not ast.get_docstring(nodes(path)[0])]
    assert [str(path.relative_to(ROOT)) for path in silent if source(path).strip()] == []


def test_nothing_names_the_machine_it_was_built_on():
    machine = re.compile(
        r"(?<![\w.-])/(?:home|Users|root|work|workspace|mnt|data\d*)/(?!someone/|project\w*/)[\w.-]+/|"  # folders, but for examples
        r"(?<![=.\w])(?:10|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2,3}\b|"  # a network
        r"--(?:extra-)?index-url|UV_INDEX|PIP_INDEX|artifactory|nexus/repository|\.internal\b"
    )
    found = []
    for path in tracked():
        if path != Path(__file__):
            text = path.read_bytes().decode("utf-8", "ignore")
            found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in machine.finditer(text)]
    assert found == []


def test_no_file_is_large_and_no_weights_or_videos_are_in_the_repository():
    large = [path for path in tracked() if path.stat().st_size > 400_000]
    media = [
        path
        for path in tracked()
        if path.suffix in (".mp4", ".mov", ".npz", ".pt", ".pth", ".ckpt", ".safetensors", ".hdf5", ".h5")
    ]
    assert (large, media) == ([], [])


def test_every_dependency_says_why_it_is_here():
    text = (ROOT / "pyproject.toml").read_text()
    lists = text.partition("\ndependencies = [")[2].partition("\n[project.scripts]")[0]
    named = [line.strip() for line in lists.splitlines() if re.search(r'"[a-zA-Z]', line)]
    assert len(named) > 20
    assert [line for line in named if not re.search(r'",?\]?\s+# \w', line)] == []


def test_python_and_torch_stay_where_they_were_promised():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.10"
    everywhere = project["dependencies"] + [
        d for name, extra in project["optional-dependencies"].items() if name != "train" for d in extra
    ]
    assert not [name for name in everywhere if name.startswith(("torch", "jax", "tensorflow"))]
