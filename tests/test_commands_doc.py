"""docs/commands.md holds every command's own help, word for word. ``python tests/test_commands_doc.py`` writes it anew."""

from __future__ import annotations

from pathlib import Path

import click
import typer

from videolift.cli import app

DOC = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
INTRO = """# Commands

`snakemake --cores N` runs everything; these look at a run and tend it. Those that need the backends (plan, doctor, models) run in a
checkout. Exit codes are in [design.md](design.md). This page is written by `python tests/test_commands_doc.py`.
"""


def render() -> str:
    """The page as the commands describe themselves."""
    group = typer.main.get_command(app)
    sections = [INTRO]
    for name, command in group.commands.items():
        with click.Context(command, info_name=f"videolift {name}", terminal_width=100, max_content_width=100) as context:
            sections.append(f"## {name}\n\n```\n{command.get_help(context).strip()}\n```\n")
    return "\n".join(sections)


def test_the_page_of_commands_says_what_the_commands_say():
    assert DOC.read_text(encoding="utf-8") == render(), "run: python tests/test_commands_doc.py"


if __name__ == "__main__":
    DOC.write_text(render(), encoding="utf-8")
