"""The configuration as the commands that need the backends are given it: a file, and settings that go before it."""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from stages.settings import load_config, parse_config
from videolift.config import Config
from videolift.errors import ConfigError
from videolift.plain_yaml import read_yaml


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config-file`` and ``--config``."""
    parser.add_argument("--config-file", type=Path, default=Path("config.yaml"), metavar="FILE", help="by default config.yaml")
    parser.add_argument("--config", nargs="*", default=[], metavar="KEY=VALUE", help="as snakemake --config; values are YAML")


def config_of(options: argparse.Namespace) -> Config:
    """The configuration that parsed ``options`` of `add_config_options` name.

    Raises:
        ConfigError: it does not hold; names what is wrong.
    """
    changes: dict[str, object] = {}
    for given in options.config:
        key, _, text = given.partition("=")
        try:
            changes[key] = read_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--config {given}: {error}") from error
    return load_config(options.config_file, changes) if options.config_file.exists() else parse_config(changes)
