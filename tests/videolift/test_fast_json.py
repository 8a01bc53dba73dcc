"""The quick parser gives what Python's gives, of whatever Python writes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videolift.fast_json import parse_json

TEXT = st.text(st.characters())  # halves of surrogate pairs included
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT, lambda v: st.lists(v) | st.dictionaries(TEXT, v)
)


@given(VALUES)
def test_what_python_writes_is_read_as_python_reads_it(value):
    assert parse_json(json.dumps(value).encode()) == value


def test_a_name_that_is_not_utf8_is_read():
    name = b"caf\xe9.mp4".decode(errors="surrogateescape")
    assert parse_json(json.dumps({"path": name})) == {"path": name}


@pytest.mark.parametrize("text", ["", "{", "[1,]", '{"a": 1} x', "1" * 5000])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match="."):
        parse_json(text)
