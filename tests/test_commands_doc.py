"""docs/commands.md holds every command's own help, word for word, and its examples.

``PYTHONPATH=. python tests/test_commands_doc.py`` writes it anew.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import typer

from stages.engine.plan_report import plan_parser
from stages.models.doctor import doctor_parser
from stages.models.install import models_parser
from stages.snakemake_command import run_parser
from videolift.cli import app

DOC = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
INTRO = """# Commands

`videolift run` makes a dataset, as `snakemake` does in a checkout; the others look at a run and tend it. In a checkout run, plan,
doctor and models use what lies there, elsewhere what was installed. Exit codes are in [design.md](design.md). This page is written
by `PYTHONPATH=. python tests/test_commands_doc.py`; in its examples, VIDEO is the id of a video.
"""

EXAMPLES = {
    "run": """
videolift run sample -o dataset                                  # four rendered clips, to see what comes out
videolift run my_videos -o dataset -n                            # what would be done, and what it would cost
videolift run my_videos -o dataset --cores 4 --config min_tier=D 'tracks={stride: 2}'
""",
    "plan": """
videolift plan --config videos=my_videos
videolift plan --config videos=my_videos --json
videolift plan --config videos=my_videos --what-if videos=10000 cards=8
""",
    "doctor": """
videolift doctor --config preset=gpu
videolift doctor --run                                           # some minutes
""",
    "models": """
videolift models list
videolift models check
videolift models install tapip3d wilor --config models_dir=/shared/models envs_dir=/shared/envs
videolift models build mediapipe
""",
    "status": """
videolift status -o dataset --videos
videolift status -o dataset --json
videolift status -o dataset --watch --every 5 --prometheus videolift.prom
""",
    "retry": """
videolift retry VIDEO --stage ingest
videolift retry --all
""",
    "exclude": """
videolift exclude VIDEO --reason "the wrong person"
""",
    "include": """
videolift include VIDEO
""",
    "remove": """
videolift remove VIDEO --yes
""",
    "clean": """
videolift clean --yes
videolift clean --stage tracks --yes                             # the next run tracks again
""",
    "preview": """
videolift preview VIDEO
""",
    "view": """
videolift view VIDEO --page
videolift view VIDEO --save scene.rrd
videolift view VIDEO                                             # opens the rerun viewer
""",
    "report": """
videolift report -o dataset --draw 3
""",
    "audit": """
videolift audit --samples 20 --seed 1
videolift audit --marks audit_marks.json                         # what the page saved
""",
    "verify": """
videolift verify dataset/h5_dataset
videolift verify dataset/h5_dataset --deep --json
videolift verify dataset/h5_dataset/VIDEO.hdf5
""",
    "merge": """
videolift merge everything dataset/h5_dataset february/h5_dataset
videolift merge everything                                       # again, after either has grown
""",
    "stats": """
videolift stats dataset/h5_dataset --split train --plot train.png
""",
    "shapes": """
videolift shapes dataset/h5_dataset --select points=64 --select window_frames=true
""",
    "calibrate": """
videolift calibrate --to my_videos/cameras.yaml
""",
    "cameras": """
videolift cameras
""",
    "export": """
videolift export lerobot dataset/h5_dataset lerobot --frame camera --hands right
videolift export webdataset dataset/h5_dataset shards --split train
videolift export y2r dataset/h5_dataset y2r
""",
    "import": """
videolift import y2r old_data dataset --fps 10 --scale metric
""",
}
"""Run by tests/site/test_blocks.py."""

HANDED_OVER = {"run": run_parser, "plan": plan_parser, "doctor": doctor_parser, "models": models_parser}


def options_of(parser: argparse.ArgumentParser) -> str:
    """An argparse command in the form of the others; its own format differs between versions of Python."""
    subcommands = next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
    places = [a.metavar or a.dest for a in parser._actions if not a.option_strings and a is not subcommands]
    usage = ["Usage:", parser.prog, "[OPTIONS]", *places]
    lines = [" ".join(usage), "", *textwrap.wrap(parser.description or "", 98, initial_indent="  ", subsequent_indent="  ")]
    lines += _described([a for a in parser._actions if a is not subcommands])
    for action in subcommands._choices_actions if subcommands else ():
        lines += ["", f"{parser.prog} {action.dest}: {action.help}", *_described(subcommands.choices[action.dest]._actions)]
    return "\n".join(lines)


def _described(actions: list[argparse.Action]) -> Iterator[str]:
    shown = [action for action in actions if not isinstance(action, argparse._HelpAction)]
    yield from ["", "Options:"] if shown else []
    for action in shown:
        takes = "" if action.nargs == 0 or not action.option_strings else f" {action.metavar or action.dest.upper()}"
        name = (", ".join(action.option_strings) or action.metavar or action.dest) + takes
        first, *rest = textwrap.wrap(action.help or "", 68) or [""]
        yield f"  {name:29} {first}".rstrip()
        yield from (" " * 32 + line for line in rest)


def render() -> str:
    """The page as the commands describe themselves."""
    group = typer.main.get_command(app)
    sections = [INTRO]
    for name, command in group.commands.items():
        with click.Context(command, info_name=f"videolift {name}", terminal_width=100, max_content_width=100) as context:
            text = options_of(HANDED_OVER[name]()) if name in HANDED_OVER else command.get_help(context).strip()
            examples = f"\n```sh{EXAMPLES[name]}```\n" if name in EXAMPLES else ""
            sections.append(f"## {name}\n\n```\n{text}\n```\n{examples}")
    return "\n".join(sections)


def test_the_page_of_commands_says_what_the_commands_say():
    assert DOC.read_text(encoding="utf-8") == render(), "run: PYTHONPATH=. python tests/test_commands_doc.py"


def test_every_command_has_examples():
    assert set(typer.main.get_command(app).commands) == set(EXAMPLES)


if __name__ == "__main__":
    DOC.write_text(render(), encoding="utf-8")
