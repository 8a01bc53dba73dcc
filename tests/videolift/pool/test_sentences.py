"""Every event a pool emits has a sentence, and none shows a dict."""

import ast
from pathlib import Path

import pytest

import videolift.pool
from videolift.pool.sentences import event_sentence


def emitted_kinds():
    """Kinds that the pool's own code emits, as written there."""
    found = set()
    for path in Path(videolift.pool.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit":
                found |= {leaf.value for leaf in ast.walk(node.args[0]) if isinstance(leaf, ast.Constant)}
    return found


@pytest.mark.parametrize("kind", sorted(emitted_kinds()))
def test_every_kind_that_is_emitted_has_a_sentence(kind):
    sentence = event_sentence({"kind": kind, "item": "a", "worker": 3, "device": "cpu", "text": "first\nsecond"})
    assert sentence != kind, "a kind of its own needs a sentence in videolift/pool/sentences.py"
    assert "{" not in sentence
    assert "second" not in sentence


def test_stopping_says_why_and_how_long_videos_get():
    event = {"kind": "stopping", "why": "signal", "text": "SIGINT", "grace_s": 25.0}
    assert event_sentence(event) == "stopping: SIGINT; running videos get 25 s to save what they have"
    assert event_sentence(event | {"grace_s": 0.0, "text": "second signal"}) == "stopping: second signal"


def test_an_event_of_another_version_that_lacks_a_field_is_still_told():
    assert event_sentence({"kind": "claimed", "item": "a"}) == "a goes to worker ?, attempt ?"
    assert event_sentence({"kind": "unheard of"}) == "unheard of"
