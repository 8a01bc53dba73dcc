"""The share of hands that the clip's frame cuts away, of a wide video whose hands are at known places."""

from pathlib import Path

import numpy as np
import pytest

from stages.backend import Inputs
from stages.hands.identity import Detection
from stages.hands.whole_picture import cut_away_share
from stages.ingest import IngestSettings
from stages.ingest.pyav import PyavIngest
from tests.videos import moving_pattern, write_video
from videolift.artifacts import Clip, ClipWriter
from videolift.inputs.video import Video

ROOT = Path(__file__).parents[3]


@pytest.fixture
def wide(tmp_path):
    """A video of 320 x 120 pixels, and a clip that keeps the middle 160 of its columns."""
    path = tmp_path / "wide.mp4"
    write_video(path, moving_pattern(60, 320, 120), fps=15)
    video = Video("wide", str(path))
    writer = ClipWriter(tmp_path / "clip.h5")
    settings = IngestSettings(width=160, height=120, fit="crop")
    PyavIngest(settings, root=ROOT).process(Inputs(video), writer, shrink=1.0, progress=lambda done, total: None)
    with Clip(writer.publish().path) as clip:
        yield video, clip


def share(wide, tmp_path, columns):
    """Of hands whose wrists are seen in these columns of the whole picture, in every frame looked at."""
    video, clip = wide

    def detect(rgb):
        scale = rgb.shape[1] / 320
        return [Detection(0, np.full((21, 2), [column * scale, 60.0 * scale]), 1.0, 1.0) for column in columns]

    return cut_away_share(video, clip, tmp_path, root=ROOT, detect=detect)


@pytest.mark.parametrize(("columns", "expected"), [((160, 90, 230), 0.0), ((20, 160), 0.5), ((20, 300), 1.0)])
def test_hands_beside_the_clip_are_counted_as_cut_away(wide, tmp_path, columns, expected):
    assert share(wide, tmp_path, columns) == pytest.approx(expected)


def test_without_hands_nothing_is_said(wide, tmp_path):
    assert share(wide, tmp_path, ()) is None
