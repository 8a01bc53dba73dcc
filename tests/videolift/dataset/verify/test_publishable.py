"""The public check finds every kind of name, and nothing in a clean dataset."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.videolift.dataset.conftest import write_packaged
from videolift.dataset import publish_dataset
from videolift.dataset.verify.publishable import check_public, strictest

LICENCES = [
    {"name": "MoGe", "licence": "MIT", "of": "depth"},
    {"name": "MANO", "licence": "non-commercial, own terms", "of": "hands"},
    {"name": "WiLoR", "licence": "CC BY-NC-ND 4.0", "of": "hands"},
]


@pytest.fixture(autouse=True)
def known_names(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "workstation-7")
    monkeypatch.setattr("getpass.getuser", lambda: "login42")


@pytest.fixture
def published(tmp_path):
    def make(**metadata):
        row = write_packaged(tmp_path / "d" / "v0.hdf5")
        publish_dataset(tmp_path / "d", [replace(row, metadata=metadata)], left_out={}, card={"licences": LICENCES})
        return tmp_path / "d"

    return make


def test_a_clean_dataset_has_no_findings_and_names_its_strictest_licence(published):
    report = check_public(published(task="lift the box"), names=["clip"])
    assert report.findings == ()
    assert report.licence == "CC BY-NC-ND 4.0"
    assert len(report.licences) == 3


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("/home/someone/videos/clip.mp4", "path"),
        ("see C:\\data\\clip", "path"),
        ("~/videos/clip", "path"),
        ("filmed on workstation-7", "host"),
        ("by login42", "user"),
        ("home__login42__clip-a9bc2df7", "user"),
        ("GOPR0042", "source"),
    ],
)
def test_names_in_a_users_column_are_found(published, value, kind):
    findings = check_public(published(note=value), names=["GOPR0042"]).findings
    assert {finding.check for finding in findings} == {kind}
    assert {finding.file for finding in findings} == {"index.sqlite"}


def test_ordinary_text_is_no_path(published):
    text = "and/or 3/4, https://example.org/a/b, m/s, CC BY-SA/4.0, n<1K"
    assert check_public(published(note=text)).findings == ()


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        ([], "none stated"),
        (["MIT", "Apache-2.0"], "MIT"),
        (["Apache-2.0", "AGPL-3.0", "CC-BY-NC-4.0"], "CC-BY-NC-4.0"),
        (["CC BY-NC 4.0", "CC BY-NC-ND 4.0", "research only"], "CC BY-NC-ND 4.0"),
        (["GPL-3.0", "MIT"], "GPL-3.0"),
    ],
)
def test_the_strictest_licence_wins(licences, expected):
    assert strictest(licences) == expected
