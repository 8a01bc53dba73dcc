"""Code of a backend that moved is noticed: who changes results raises its ``version``, else finished videos keep the old ones.

`versions.json` records, for every backend, its version and a digest of its code and of all it imports from its own folder
(packaging: from `videolift.dataset`), comments, docstrings and layout aside. ``python tests/test_versions.py`` writes it anew.
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

from stages.registry import available, backend_class
from videolift.config import STAGES

ROOT = Path(__file__).resolve().parents[1]
RECORD = Path(__file__).with_name("versions.json")


def recorded_now() -> dict[str, list[Any]]:
    """Backend to [version, digest of its code]."""
    return {
        f"{stage}/{name}": [backend_class(stage, name).version, code_digest(stage, name)]
        for stage in STAGES
        for name in available(stage)
    }


def code_digest(stage: str, name: str) -> str:
    """SHA-256 over the meaning of a backend's files, 16 digits."""
    prefixes = (f"stages.{stage}.", "videolift.dataset.") if stage == "create_h5" else (f"stages.{stage}.",)
    waiting, seen = [f"stages.{stage}.{name}", f"stages.{stage}.{name}_worker"], {}
    while waiting:
        module = waiting.pop()
        path = ROOT / (module.replace(".", "/") + ".py")
        if module not in seen and path.is_file():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            seen[module] = meaning(tree)
            waiting += [found for found in imported(tree) if found.startswith(prefixes)]
    return hashlib.sha256(json.dumps(sorted(seen.items())).encode()).hexdigest()[:16]


def imported(tree: ast.Module) -> list[str]:
    """Modules that ``from`` imports may name, wherever they stand."""
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return [name for node in froms for name in (node.module, *(f"{node.module}.{part.name}" for part in node.names)) if name]


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


def test_code_that_moved_is_noticed():
    record, now = json.loads(RECORD.read_text(encoding="utf-8")), recorded_now()
    moved = sorted(name for name in record.keys() | now.keys() if record.get(name) != now.get(name))
    assert not moved, f"{moved}: if results change, raise `version`; then run: python tests/test_versions.py"


def test_comments_and_layout_are_no_change_but_a_number_is():
    code = 'def f(x):\n    """Text."""\n    return x + 1'
    assert meaning(ast.parse(code)) == meaning(ast.parse("def f( x ):\n    return x + 1  # why\n"))
    assert meaning(ast.parse(code)) != meaning(ast.parse(code.replace("1", "2")))


if __name__ == "__main__":
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in recorded_now().items()]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
