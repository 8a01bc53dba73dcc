"""The table of stages: its rows agree with each other and with what they name."""

import importlib
from dataclasses import fields

import pytest

from stages.backend import Inputs
from videolift.artifacts import Artifact
from videolift.inputs.video import Video
from videolift.stage_table import PACKAGING, PARTS, SOURCE, SPECS, STAGES, ends, judged, releasable, with_upstream

COLUMNS = {field.name for field in fields(Video)}


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.name)
def test_a_row_reads_earlier_rows_and_cells_that_videos_have(spec):
    assert set(spec.reads) <= set(STAGES[: STAGES.index(spec.name)])
    assert set(spec.optional) <= set(spec.reads)
    assert {*spec.files, *spec.cells, *spec.row} <= COLUMNS
    assert not spec.field or spec.field in {field.name for field in fields(Inputs)}


@pytest.mark.parametrize("spec", [SPECS[stage] for stage in STAGES if stage != PACKAGING], ids=lambda spec: spec.name)
def test_a_row_names_the_class_that_opens_its_artifacts(spec):
    module, _, name = spec.artifact.partition(":")
    assert issubclass(getattr(importlib.import_module(module), name), Artifact)


def test_whoever_reads_an_addition_can_do_without_it():
    readers = [(spec, name) for spec in SPECS.values() for name in spec.reads if SPECS[name].addition]
    assert readers
    assert all(name in spec.optional for spec, name in readers)


def test_artifacts_of_two_stages_never_lie_in_one_folder():
    assert len({spec.folder for spec in SPECS.values()}) == len(SPECS)


def test_upstream_is_closed_and_in_order():
    assert with_upstream("tracks") == ("ingest", "depth", "masks", "tracks")
    assert with_upstream("hands", "tracks") == ("ingest", "depth", "masks", "tracks", "hands")
    assert with_upstream(*ends()) == STAGES


def test_the_table_says_what_is_read_first_and_what_is_published():
    assert (SOURCE, PACKAGING, PARTS) == ("ingest", "create_h5", ("depth", "masks", "tracks", "hands"))
    assert judged(PACKAGING) == STAGES
    assert judged("depth") == ("ingest", "depth")


def test_all_but_the_packaged_file_may_be_released_once_it_is_there():
    assert releasable() == STAGES[:-1]
