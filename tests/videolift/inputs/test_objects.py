"""The cell `objects` of the table: clicks and boxes in pixels of the video."""

import numpy as np
import pytest

from videolift.errors import ConfigError
from videolift.inputs.framing import Framing
from videolift.inputs.objects import parse_objects
from videolift.inputs.table import read_table


def test_a_cell_names_clicks_and_boxes_by_number():
    click, box = parse_objects("320 240; 10 20 200 180")
    assert (click.id, click.kind, click.uv_px.tolist()) == (1, "click", [[320, 240]])
    assert (box.id, box.kind, box.uv_px.tolist()) == (2, "box", [[10, 20], [200, 180]])
    assert parse_objects("") == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("320", "an object is"),
        ("320 240;", "an object is"),
        ("320 -4", "an object is"),
        ("1 2 3", "an object is"),
        ("a b", "an object is"),
        ("9 9 9 12", "left must be below right"),
        (";".join(["1 1"] * 256), "256 objects, at most 255"),
    ],
)
def test_another_cell_is_refused_with_its_line_and_column(tmp_path, text, why):
    (tmp_path / "v.mp4").touch()
    (tmp_path / "videos.csv").write_text(f"path,objects\nv.mp4,{text}\n")
    with pytest.raises(ConfigError, match=f"line 2, column objects.*{why}"):
        read_table(tmp_path / "videos.csv")


def test_prompts_come_into_the_clips_pixels_and_boxes_are_cut_at_its_border():
    framing = Framing.fit((640, 480), (240, 240), "crop")  # half the size, 40 px of each side cut away
    click, box, outside, beside = parse_objects("320 240; 0 0 200 180; 30 30; 0 0 79 400")
    np.testing.assert_allclose(click.within(framing).uv_px, [[119.75, 119.75]])
    np.testing.assert_allclose(box.within(framing).uv_px, [[0, 0], [59.75, 89.75]])
    assert outside.within(framing) is None
    assert beside.within(framing) is None
