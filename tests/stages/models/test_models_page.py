"""docs/models.md: its commands are ones that exist, its licences are those of the manifest, its settings are settings."""

import re
import shlex
from pathlib import Path

import pytest

from stages.models.doctor import doctor_parser
from stages.models.environments import ENVS
from stages.models.install import models_parser
from stages.models.weights import read_models
from stages.settings import config_model, known_keys

PAGE = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line, comments=True) for block in re.findall(r"```\n(.*?)```", PAGE, re.S) for line in block.splitlines() if line
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_of_the_page_exists(command):
    program, name, *arguments = command
    assert program == "videolift"
    options = {"models": models_parser, "doctor": doctor_parser}[name]().parse_args(arguments)
    assert set(getattr(options, "names", [])) <= set(read_models())


def test_the_page_names_every_model_and_its_strictest_licence():
    for name, word in {
        "vipe": "AGPL-3.0",
        "moge": "MIT",
        "tapip3d": "not stated",
        "wilor": "CC-BY-NC-ND-4.0",
        "mediapipe": "Apache-2.0",
    }.items():
        model = read_models()[name]
        assert name.casefold() in PAGE.casefold()
        assert word in PAGE
        assert word in model.licence_code + model.licence_weights
        assert (ENVS / f"{model.env}.yaml").exists()


@pytest.mark.parametrize("setting", re.findall(r"`((?:vipe|depth|tracks|create_h5)\.[a-z_.0-9]+)", PAGE))
def test_every_setting_of_the_page_is_one(setting):
    known = list(known_keys(config_model()))
    assert any(key == setting or key.endswith("." + setting) for key in known), setting
