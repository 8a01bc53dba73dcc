"""What of the settings enters a fingerprint: as recorded, and nothing of another backend's."""

import json
from pathlib import Path

import pytest

from stages.registry import backend_class, identity
from videolift.config import Block, DepthSettings, HandsSettings, StageBlock, TracksSettings, parse_config

ROOT = Path(__file__).resolve().parents[2]
RECORDED = json.loads(Path(__file__).with_name("identities.json").read_text())
"""Identities under the default settings, without any weights, as output folders in use have them in their receipts."""


class NewSettings(Block):
    """Of a backend that comes later."""

    knob: int = 1


class DepthWithNew(DepthSettings):
    new: NewSettings = NewSettings()


class TracksWithNew(TracksSettings):
    new: NewSettings = NewSettings()


class HandsWithNew(HandsSettings):
    new: NewSettings = NewSettings()


WITH_NEW: dict[str, type[StageBlock]] = {"depth": DepthWithNew, "tracks": TracksWithNew, "hands": HandsWithNew}


@pytest.mark.parametrize("name", RECORDED)
def test_finished_work_stays_finished_under_the_default_settings(name, tmp_path):
    stage, backend = name.split("/")
    settings = {"models_dir": str(tmp_path), stage: {"backend": backend}}
    now = identity(stage, parse_config(settings).for_video("v")[stage])
    now["version"] = RECORDED[name]["version"]  # raised by hand with results
    assert json.loads(json.dumps(now)) == RECORDED[name]


@pytest.mark.parametrize("name", [name for name in RECORDED if name.split("/")[0] in WITH_NEW])
def test_a_new_backends_settings_do_not_change_the_identity_of_the_others(name):
    stage, backend = name.split("/")
    kind = backend_class(stage, backend)
    before, after = (
        kind(block.model_validate({"backend": backend, "seed": 0}), root=ROOT).identity()
        for block in (WITH_NEW[stage].__base__, WITH_NEW[stage])
    )
    assert after == before
