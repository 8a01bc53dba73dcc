"""The card names every model behind a dataset, its weights and its licences, once each."""

from stages.models.licences import licences_for_card
from videolift.dataset.verify.publishable import strictest


def test_every_model_is_named_once_with_weights_and_both_licences():
    wilor = {"name": "wilor", "version": 1, "weights": ["a" * 64, "b" * 64]}
    facts = licences_for_card(
        [
            ("hands", wilor),
            ("hands", dict(wilor)),
            ("tracks", {"name": "flow", "version": 1}),
            ("depth", {"name": "moge", "version": 1}),
        ]
    )
    assert [row["name"] for row in facts["models"]] == ["moge", "wilor"]
    assert facts["models"][1]["weights"] == "aaaaaaaaaaaa, bbbbbbbbbbbb"
    assert [row["name"] for row in facts["licences"]] == ["moge, code", "moge, weights", "wilor, code", "wilor, weights"]
    assert {row["of"] for row in facts["licences"]} == {"hands", "depth"}


def test_wilors_non_commercial_licence_is_the_one_that_binds():
    facts = licences_for_card([("hands", {"name": "wilor", "version": 1}), ("depth", {"name": "moge", "version": 1})])
    assert "NC-ND" in strictest(row["licence"] for row in facts["licences"])


def test_preset_permissive_owes_nothing_but_permissive_licences():
    chosen = [("depth", "mapanything"), ("tracks", "flow"), ("hands", "mediapipe")]
    facts = licences_for_card([(stage, {"name": name, "version": 1}) for stage, name in chosen])
    assert [row["name"] for row in facts["models"]] == ["mapanything", "mediapipe"]
    first_words = {row["licence"].split()[0].rstrip(",") for row in facts["licences"]}
    assert first_words == {"Apache-2.0"}


def test_our_own_backends_owe_nobody():
    assert licences_for_card([("depth", {"name": "sfm", "version": 1})]) == {"licences": [], "models": []}
