"""Every error text that the program can print, read from the source: class, code, text with its blanks, remedy.

The site takes them in when it is built (``hooks.py``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    "BadInput": "A video is quarantined. The others go on; after mending, `videolift retry VIDEO` and the same run again.",
    "ConfigError": "The configuration or the command line is wrong; nothing was done. Exit code 2.",
    "BackendUnavailable": "A backend cannot start; `videolift doctor` says what is missing. Exit code 3.",
    "UnsafeCheckpoint": "Weights hold something else than tensors and are not loaded. Exit code 3.",
    "CorruptFile": "A file is damaged or of another version. Run the same command again: damaged artifacts are made anew.",
    "Transient": "Disk, quota or I/O. Make room or mend the disk, then run the same command again. Exit code 4.",
    "LeaseHeld": "Another run works on this batch. Wait for it, or stop it. Exit code 5.",
}
MARK = "<!-- error texts -->"
"""Where the page takes them in, when the site is built: a copy in the repository would fall behind with every new error."""


@dataclass(frozen=True, order=True)
class ErrorText:
    """One place that raises; `code` and `remedy` are empty but for `BadInput`."""

    kind: str
    code: str
    text: str
    remedy: str


def error_texts() -> list[ErrorText]:
    """All of them, each once, in order."""
    found: set[ErrorText] = set()
    for folder in ("videolift", "stages"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            module = ast.parse(path.read_text(encoding="utf-8"))
            constants = _assigned(module.body)
            for function in ast.walk(module):
                if isinstance(function, ast.FunctionDef):
                    found.update(_raised(function, constants))
    return sorted(one for one in found if re.search(r"[a-z]{2}", re.sub(r"\{[^}]*\}", "", one.text)))


def _raised(function: ast.FunctionDef, constants: dict[str, ast.expr]) -> Iterator[ErrorText]:
    assignments = sorted((node for node in ast.walk(function) if isinstance(node, ast.Assign)), key=lambda node: node.lineno)
    for node in ast.walk(function):
        known = constants | _assigned([one for one in assignments if one.lineno < getattr(node, "lineno", 0)])
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            kind, texts = node.exc.func.id, [_text(argument, known) for argument in node.exc.args]
            if kind == "BadInput" and len(texts) == 3:
                yield ErrorText(kind, *texts)
            elif kind in KINDS and kind != "BadInput" and texts:
                yield ErrorText(kind, "", texts[0], "")


def _assigned(statements: Sequence[ast.AST]) -> dict[str, ast.expr]:
    """Names and what they were given last."""
    out: dict[str, ast.expr] = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=False))
            for name, part in pairs:
                if isinstance(name, ast.Name):
                    out[name.id] = part
    return out


def _text(node: ast.expr, known: dict[str, ast.expr], depth: int = 0) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, known, depth) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        inner = node.value
        if isinstance(inner, ast.Name) and isinstance(known.get(inner.id), ast.Constant | ast.JoinedStr) and depth < 4:
            return _text(known[inner.id], known, depth + 1)
        return "{" + _blank(inner) + "}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, known, depth) + _text(node.right, known, depth)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body, known, depth)} / {_text(node.orelse, known, depth)}"
    if isinstance(node, ast.Name) and node.id in known and depth < 4:
        return _text(known[node.id], known, depth + 1)
    return "{" + _blank(node) + "}"


def _blank(node: ast.expr) -> str:
    """A word for what is filled in."""
    while isinstance(node, ast.Call | ast.Subscript | ast.Starred):
        node = node.args[0] if isinstance(node, ast.Call) and node.args else node.func if isinstance(node, ast.Call) else node.value
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_")
    return node.id.strip("_") if isinstance(node, ast.Name) else "value"


def render(texts: list[ErrorText]) -> str:
    """The list, as markdown."""
    parts = []
    for kind, meaning in KINDS.items():
        mine = [one for one in texts if one.kind == kind]
        if not mine:
            continue
        parts.append(f"## {kind}\n\n{meaning}\n")
        if kind == "BadInput":
            parts.append("| code | text | remedy |\n|---|---|---|")
            parts += [f"| `{_cell(one.code)}` | {_cell(one.text)} | {_cell(one.remedy)} |" for one in mine]
        else:
            parts += [f"- {_cell(one.text)}" for one in mine]
        parts.append("")
    return "\n".join(parts)


def _cell(text: str) -> str:
    plain = " ".join(text.split())
    return plain.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")
