"""The whole configuration: run-wide settings, stages and backends gathered from where they are declared, and one video's share.

A stage declares its settings in its package (``SETTINGS`` in ``stages/{stage}/__init__.py``), a backend in its own file
(`stages.backend.Backend.settings_model`); `settings_for` is the one place that resolves ``preset``, the row's own files,
``overrides`` and inherited settings into what one video is processed with.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError, create_model, model_validator

from stages.registry import available, backend_class
from videolift.config import Config, StageBlock
from videolift.errors import ConfigError
from videolift.inputs.video import Video
from videolift.plain_yaml import read_yaml
from videolift.stage_table import STAGES


@cache
def stage_model(stage: str) -> type[StageBlock]:
    """A stage's settings with a block for each of its backends that has settings: those of the presets first."""
    own: type[StageBlock] = importlib.import_module(f"stages.{stage}").SETTINGS
    kinds = sorted((backend_class(stage, name) for name in available(stage)), key=lambda kind: (kind.presets or ("~",), kind.name))
    blocks: dict[str, Any] = {kind.name: (kind.settings_model, kind.settings_model()) for kind in kinds if kind.settings_model}
    return create_model(own.__name__, __base__=own, __doc__=own.__doc__, **blocks)


class _WholeConfig(Config):
    """Run-wide settings and a block per stage."""

    @model_validator(mode="after")
    def _overrides_are_valid(self) -> _WholeConfig:
        for pattern in self.overrides:
            _with_overrides(self, [pattern])
        return self


@cache
def config_model() -> type[Config]:
    """The class of whole configurations."""
    blocks: dict[str, Any] = {stage: (stage_model(stage), stage_model(stage)()) for stage in STAGES}
    return create_model("Config", __base__=_WholeConfig, __doc__=_WholeConfig.__doc__, **blocks)


def load_config(path: Path, changes: Mapping[str, Any] | None = None) -> Config:
    """Reads a YAML file and puts ``changes`` (a nested mapping) on top.

    Raises:
        ConfigError: unreadable, unknown keys or values out of range; the text names key, value and what is allowed.
    """
    return parse_config(deep_merge(read_settings(path), changes or {}))


def read_settings(path: Path) -> Mapping[str, Any]:
    """A file of settings, not validated; see `load_config` for errors."""
    try:
        tree = read_yaml(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path}: expected a mapping of settings, found {type(tree).__name__}")
    return tree


def parse_config(tree: Mapping[str, Any]) -> Config:
    """A validated whole configuration from a nested mapping; see `load_config` for errors."""
    try:
        return config_model().model_validate(dict(tree))
    except ValidationError as error:
        known, lines = list(known_keys(config_model())), []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                lines.append(_unknown(key, key, known))
            else:
                where = f"{key} is {item['input']!r}: " if key else ""
                lines.append(f"{where}{item['msg'].removeprefix('Value error, ')}")
        raise ConfigError("\n".join(lines)) from error


def changed_settings(config: Config) -> dict[str, Any]:
    """Settings of a whole configuration that differ from their defaults, ``stage.name`` to value; no paths of this machine."""
    # Said in reports that people pass on.
    local = {"videos", "output", "models_dir", "envs_dir"}
    given, defaults = (whole.model_dump(mode="json", exclude=local) for whole in (config, config_model()()))
    return dict(_differences("", given, defaults))


def _differences(prefix: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping) and default:
            yield from _differences(f"{prefix}{name}.", value, default)
        elif value != default:
            yield prefix + name, value


def deep_merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` on top, mappings merged key by key, everything else replaced."""
    out = dict(base)
    for key, value in changes.items():
        old = out.get(key)
        out[key] = deep_merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def stage_block(stage: str, **settings: Any) -> StageBlock:
    """A stage's settings by themselves; those not given are the defaults."""
    return stage_model(stage).model_validate(settings)


def variant_key(config: Config, video: Video) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What `settings_for` depends on: videos with equal keys have equal settings."""
    # In the order of the file: later patterns go on top of earlier ones.
    patterns = tuple(p for p in config.overrides if fnmatch.fnmatchcase(video.id, p)) if config.overrides else ()
    return patterns, tuple(name for name in _row_files() if getattr(video, name) is not None)


def settings_for(config: Config, video: Video) -> dict[str, StageBlock]:
    """Settings of one video: stage name to its block, ``backend`` never ``preset``, nothing inherited left open.

    A row that names a file with a backend of its own is done by that backend, unless the configuration names another one.
    """
    patterns, files = variant_key(config, video)
    blocks = _with_overrides(config, patterns)
    for stage, block in blocks.items():
        if block.backend == "preset":
            reads_the_row = (name for name in available(stage) if backend_class(stage, name).row_file in files)
            chosen = next(reads_the_row, None) or preset_backends(config.preset).get(stage)
            if chosen is None:
                names = ", ".join([*available(stage), "none"])
                raise ConfigError(f"preset {config.preset} has no backend for {stage}: set {stage}.backend to one of {names}")
            blocks[stage] = block.model_copy(update={"backend": chosen})
    # from what the user wrote, not from what another stage inherited: the order of stages must not matter
    values = {stage: block.model_dump() for stage, block in blocks.items()}
    for stage, block in blocks.items():
        found = {}
        for name, source in _sources(type(block)):
            if values[stage][name] is None:
                giver, dot, setting = source.rpartition(".")
                found[name] = values[giver][setting] if dot else getattr(config, source)
        blocks[stage] = block.model_copy(update=found).in_folders(config.models_dir, config.envs_dir)
    return blocks


def _with_overrides(config: Config, patterns: Sequence[str]) -> dict[str, StageBlock]:
    blocks: dict[str, StageBlock] = {stage: getattr(config, stage) for stage in STAGES}
    for pattern in patterns:
        for stage, changes in config.overrides[pattern].items():
            if stage not in blocks:
                raise ValueError(_unknown(f"overrides.{pattern}.{stage}", stage, STAGES))
            merged = deep_merge(blocks[stage].model_dump(), changes)
            blocks[stage] = type(blocks[stage]).model_validate(merged)
    return blocks


@cache
def preset_backends(preset: str) -> Mapping[str, str]:
    """Stage to the backend that a preset takes; without stages that have none for it."""
    found: dict[str, str] = {}
    for stage in STAGES:
        named = [name for name in available(stage) if preset in backend_class(stage, name).presets]
        if len(named) > 1:
            raise ConfigError(
                f"{' and '.join(named)} both say that preset {preset} takes them for {stage}: change `presets` in one"
            )
        if named:
            found[stage] = named[0]
    return found


@cache
def _row_files() -> tuple[str, ...]:
    files = {backend_class(stage, name).row_file for stage in STAGES for name in available(stage)}
    return tuple(sorted(filter(None, files)))


@cache
def _sources(model: type[StageBlock]) -> tuple[tuple[str, str], ...]:
    """(setting, where it comes from when it is None) of a block."""
    extras = {name: field.json_schema_extra for name, field in model.model_fields.items()}
    return tuple(
        (name, str(extra["inherits"])) for name, extra in extras.items() if isinstance(extra, dict) and "inherits" in extra
    )


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of every setting below ``model``, depth first."""
    for name, field in model.model_fields.items():
        yield prefix + name
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from known_keys(kind, f"{prefix}{name}.")


def _unknown(key: str, wanted: str, known: list[str] | tuple[str, ...]) -> str:
    # By the last word too: people remember `stride`, not where it stands. Of equal words the first in the file wins.
    leaf = {name: name for name in known} | {name.rsplit(".", 1)[-1]: name for name in reversed(list(known))}
    close = difflib.get_close_matches(wanted, known, 1, 0.6) or difflib.get_close_matches(wanted.rsplit(".", 1)[-1], leaf, 1, 0.6)
    hint = f"did you mean {leaf[close[0]]}?" if close else "see config.yaml for all of them"
    return f"unknown setting {key}: {hint}"
