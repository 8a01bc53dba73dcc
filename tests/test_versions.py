"""A backend whose code changed without its ``version`` is noticed: finished videos would keep the old results.

`versions.json` records, for every backend, its version and a digest of all code of ours that it reaches: its own file and every
function, class and constant that those name, through the whole tree. Comments, docstrings, layout, annotations and the module
something stands in do not count. ``python tests/test_versions.py`` writes the record anew.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stages.registry import available, backend_class
from videolift.stage_table import STAGES

ROOT = Path(__file__).resolve().parents[1]
RECORD = Path(__file__).with_name("versions.json")
ENGINE = (
    *(
        "stages.engine",
        "stages.models",
        "stages.backend",
        "stages.registry",
        "stages.settings",
        "videolift.config",
        "videolift.errors",
    ),
    *(
        "videolift.isolation",
        "videolift.paths",
        "videolift.stage_table",
        "videolift.pool",
        "videolift.processes",
        "videolift.records",
    ),
)
"""What runs a backend. It may change without changing a result; settings that matter are in the backend's identity."""


def recorded_now() -> dict[str, list[Any]]:
    """Backend to [version, digest of its code]."""
    return {
        f"{stage}/{name}": [backend_class(stage, name).version, code_digest(stage, name)]
        for stage in STAGES
        for name in available(stage)
    }


def code_digest(stage: str, name: str) -> str:
    """SHA-256 over the meaning of all that a backend reaches, 16 digits."""
    reached = reachable((f"stages.{stage}.{name}", f"stages.{stage}.{name}_worker"))
    return hashlib.sha256("\n".join(sorted(reached.values())).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Definition:
    """A top-level statement of a module.

    Attributes:
        meaning: see `meaning`.
        names: dotted names that it uses, such as ``invert_pose`` or ``geometry.project``.
        imports: names that it imports itself, to what they stand for.
    """

    meaning: str
    names: frozenset[str]
    imports: dict[str, str]


@dataclass(frozen=True)
class Code:
    """A module: what its top-level names stand for, and the statements that give no name but run on import."""

    definitions: dict[str, list[Definition]]
    imports: dict[str, str]


def reachable(modules: tuple[str, ...]) -> dict[tuple[str, str], str]:
    """(module, name) to the meaning of everything that ``modules`` define and use, directly or not."""
    reached: dict[tuple[str, str], str] = {}
    waiting = [(module, name) for module in modules if path_of(module) for name in code_of(module).definitions]
    while waiting:
        at = module, name = waiting.pop()
        if at in reached or module.startswith(ENGINE) or path_of(module) is None:
            continue
        code = code_of(module)
        if name in code.imports:  # a package that passes on what another module defines
            waiting.append(resolve(code.imports[name], ""))
            continue
        definitions = code.definitions.get(name, [])
        reached[at] = "\n".join(definition.meaning for definition in definitions)
        waiting += [(module, "")]
        for definition in definitions:
            for used in definition.names:
                first, _, rest = used.partition(".")
                if first in definition.imports or first in code.imports:
                    waiting.append(resolve((definition.imports | code.imports)[first], rest))
                elif first in code.definitions:
                    waiting.append((module, first))
    return reached


def resolve(target: str, attribute: str) -> tuple[str, str]:
    """(module, name) that an imported dotted name and an attribute of it stand for."""
    if path_of(target):
        return target, attribute.partition(".")[0]
    module, _, name = target.rpartition(".")
    return module, name


@cache
def path_of(module: str) -> Path | None:
    """The file of a module of ours, None for anybody else's."""
    base = ROOT / module.replace(".", "/")
    if not module.startswith(("videolift.", "stages.")):
        return None
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def code_of(module: str) -> Code:
    """A module of ours, read."""
    path = path_of(module)
    assert path is not None
    return read_code(path.read_text(encoding="utf-8"))


def read_code(text: str) -> Code:
    """Takes a module apart."""
    tree = ast.fix_missing_locations(WithoutAnnotations().visit(ast.parse(text)))
    code = Code({"": []}, {})
    for statement in tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            code.imports.update(imports_of(statement))
        elif not is_text(statement):
            definition = Definition(json.dumps(meaning(statement)), frozenset(names_of(statement)), imports_of(statement))
            for name in bound_by(statement) or [""]:
                code.definitions.setdefault(name, []).append(definition)
    return code


class WithoutAnnotations(ast.NodeTransformer):
    """Takes out what only type checkers and readers look at."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else self.generic_visit(node)


def imports_of(node: ast.AST) -> dict[str, str]:
    """Names that the ``from`` imports of ours in a node bind, to what they stand for."""
    froms = [found for found in ast.walk(node) if isinstance(found, ast.ImportFrom) and found.module]
    return {alias.asname or alias.name: f"{found.module}.{alias.name}" for found in froms for alias in found.names}


def names_of(node: ast.AST) -> Iterator[str]:
    """Names that a node uses, those with one attribute as such."""
    for found in ast.walk(node):
        if isinstance(found, ast.Name):
            yield found.id
        elif isinstance(found, ast.Attribute) and isinstance(found.value, ast.Name):
            yield f"{found.value.id}.{found.attr}"


def bound_by(statement: ast.stmt) -> list[str]:
    """Names that a top-level statement defines."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return [statement.name]
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return []
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return [found.id for target in targets for found in ast.walk(target) if isinstance(found, ast.Name)]


def meaning(node: Any) -> Any:
    """A syntax tree without positions, docstrings and empty fields, which differ between versions of Python."""
    if isinstance(node, list):
        return [meaning(part) for part in node if not is_text(part)]
    if isinstance(node, ast.AST):
        parts = [[name, meaning(value)] for name, value in ast.iter_fields(node) if value not in (None, [])]
        return [type(node).__name__, parts]
    return repr(node)


def is_text(node: Any) -> bool:
    """True of a docstring, or any other string that stands alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def test_code_that_changed_is_noticed():
    record, now = json.loads(RECORD.read_text(encoding="utf-8")), recorded_now()
    moved = sorted(name for name in record.keys() | now.keys() if record.get(name) != now.get(name))
    assert not moved, f"{moved}: if results change, raise `version`; then run: python tests/test_versions.py"


def test_comments_layout_and_annotations_are_no_change_but_a_number_is():
    code = 'def f(x):\n    """Text."""\n    return x + 1'
    same = "def f( x: int ) -> int:\n    return x + 1  # why\n"
    first, second, third = (read_code(text).definitions["f"][0].meaning for text in (code, same, code.replace("1", "2")))
    assert first == second
    assert first != third


def test_shared_code_that_a_backend_uses_counts_and_what_only_others_use_does_not():
    names = {name for _, name in reachable(("stages.create_h5.hdf5",))}
    assert {"window_starts", "hand_scale", "project", "Accumulators", "residual_decode"} - names == {"residual_decode"}
    assert "invert_pose" in names, "used two modules further on, by geometry's own T_cam0_camk"
    assert not {"umeyama", "load_statistics", "render_card", "verify_file"} & names


def test_every_shared_function_named_here_counts_for_the_backends_that_use_it():
    def users(name):
        backends = [(stage, backend) for stage in STAGES for backend in available(stage)]
        return {f"{s}/{b}" for s, b in backends if name in {n for _, n in reachable((f"stages.{s}.{b}",))}}

    assert users("Framing") >= {"ingest/pyav"}
    assert users("write_frames") >= {"depth/sfm", "depth/rgbd"}
    assert users("residual_encode") >= {"ingest/pyav"}
    assert users("solve_trajectory") >= {"depth/sfm", "depth/moge"}


def test_moving_a_function_to_another_module_is_no_change():
    here, there = read_code("import numpy\n\ndef f():\n    return 1\n"), read_code("X = 3\ndef f():\n    return 1\n")
    assert here.definitions["f"] == there.definitions["f"]


if __name__ == "__main__":
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in recorded_now().items()]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
