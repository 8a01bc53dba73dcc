"""What of the settings enters a fingerprint: as recorded, and nothing of another backend's."""

import json
from pathlib import Path

import pytest
from pydantic import create_model

from stages.registry import backend_class, identity
from stages.settings import stage_model
from tests.blocks import blocks_of
from videolift.config import Block

ROOT = Path(__file__).resolve().parents[2]
RECORDED = json.loads(Path(__file__).with_name("identities.json").read_text())
"""Identities under the default settings, without any weights, as output folders in use have them in their receipts."""


class NewSettings(Block):
    """Of a backend that comes later."""

    knob: int = 1


@pytest.mark.parametrize("name", RECORDED)
def test_finished_work_stays_finished_under_the_default_settings(name, tmp_path):
    stage, backend = name.split("/")
    now = identity(stage, blocks_of(models_dir=str(tmp_path), **{stage: {"backend": backend}})[stage])
    now["version"] = RECORDED[name]["version"]  # raised by hand with results
    assert json.loads(json.dumps(now)) == RECORDED[name]


@pytest.mark.parametrize("name", RECORDED)
def test_a_new_backends_settings_do_not_change_the_identity_of_the_others(name):
    stage, backend = name.split("/")
    now = stage_model(stage)
    later = create_model("Later", __base__=now, new=(NewSettings, NewSettings()))
    kind = backend_class(stage, backend)
    before, after = (kind(model(backend=backend, seed=0), root=ROOT).identity() for model in (now, later))
    assert after == before
