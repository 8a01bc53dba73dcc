"""config.yaml as text: every setting of `stages.settings.config_model` with its default and the reason beside it.

Turns the typed tree into the file that people read and edit. Reads no file; a test keeps the committed one equal to this text.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stages.models.model_process import ModelSettings
from stages.settings import config_model, preset_backends
from videolift.config import Config, StageBlock
from videolift.stage_table import STAGES

_HEAD = """\
# Every setting with its default. Change it here, for one run on the command line
#   snakemake --cores 4 --config preset=gpu 'tracks={window_length: 12}'
# or for some videos under `overrides` at the end. Unknown keys are refused. `null` means none.
"""
_WIDTH = 130
_COLUMN = 36
"""Where comments start, beside short values."""


def render_config() -> str:
    """The text of config.yaml."""
    # A setting that many blocks share is explained where it comes first.
    said: set[str] = set()
    lines = [_HEAD]
    own = {name: field for name, field in Config.model_fields.items() if _block(field) is None and name != "overrides"}
    for name, field in own.items():
        lines += _setting(name, field, "", said)
    blocks = {stage: config_model().model_fields[stage] for stage in STAGES}
    blocks |= {name: field for name, field in Config.model_fields.items() if _block(field) is not None}
    for name, field in blocks.items():
        block = _block(field)
        if block is not None:
            said &= {shared.description or "" for shared in StageBlock.model_fields.values()}  # these once, the rest per stage
            lines += ["", *_wrapped(_purpose(block), ""), f"{name}:"]
            lines += _settings(block, "  ", said, stage=name if name in STAGES else None)
    lines += ["", *_setting("overrides", Config.model_fields["overrides"], "", said), *_EXAMPLE]
    return "\n".join(lines) + "\n"


_EXAMPLE = (
    "#   'tripod__*':",
    "#     depth: {backend: rgbd}",
    "#     tracks: {stride: 5}",
)


def _settings(model: type[BaseModel], indent: str, said: set[str], stage: str | None = None) -> Iterator[str]:
    # What all models' backends have in common stands last in each block.
    for name in sorted(model.model_fields, key=lambda name: name in ModelSettings.model_fields):
        field = model.model_fields[name]
        block = _block(field)
        if block is not None:
            yield from ("", *_wrapped(_purpose(block), indent), f"{indent}{name}:")
            yield from _settings(block, indent + "  ", said)
        elif name == "backend" and stage is not None and field.default == "preset":
            takes = {preset: preset_backends(preset)[stage] for preset in _choices(Config.model_fields["preset"].annotation)}
            same = len(set(takes.values())) == 1
            chosen = takes["cpu"] if same else ", ".join(f"{backend} ({preset})" for preset, backend in takes.items())
            yield from _line(f"{indent}backend: preset", f"by name; `preset` takes {chosen}", indent)
        else:
            yield from _setting(name, field, indent, said)


def _setting(name: str, field: FieldInfo, indent: str, said: set[str]) -> list[str]:
    default = list(field.default) if isinstance(field.default, tuple) else field.default  # safe_dump knows no tuples
    # PyYAML ends a scalar that stands alone with a line of dots
    value = yaml.safe_dump(default, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
    comment = field.description or ""
    choices = [str(choice) for choice in _choices(field.annotation)]
    if any(choice not in comment for choice in choices):
        comment = f"{' | '.join(choices)}; {comment}"
    if comment in said:
        return [f"{indent}{name}: {value}"]
    said.add(comment)
    return _line(f"{indent}{name}: {value}", comment, indent)


def _line(setting: str, comment: str, indent: str) -> list[str]:
    beside = f"{setting:<{_COLUMN}} # {comment}" if len(setting) < _COLUMN else f"{setting}  # {comment}"
    return [beside] if len(beside) <= _WIDTH else [*_wrapped(comment, indent), setting]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _block(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _purpose(block: type[BaseModel]) -> str:
    return inspect.cleandoc(block.__doc__ or "").split("\n\n")[0].replace("\n", " ").rstrip(".")


def _choices(kind: Any) -> tuple[Any, ...]:
    """The values of a Literal, also of one inside a tuple or Optional."""
    inner = [_choices(part) for part in get_args(kind) if get_origin(part) is not None]
    arguments = get_args(kind)
    literal = bool(arguments) and all(isinstance(part, str) for part in arguments)
    return arguments if literal else tuple(value for values in inner for value in values)


if __name__ == "__main__":
    print(render_config(), end="")
