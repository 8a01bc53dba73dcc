from __future__ import annotations

from types import SimpleNamespace

import pytest
from av.video.frame import PictureType

from stages.ingest.decode import Damage, DamageFound, _undamaged, decode
from stages.ingest.source import open_video_source
from tests.stages.ingest.test_pyav import damaged_copy


def kept(text: str, refused: str = "") -> tuple[str, Damage]:
    """Numbers of the frames that get through ``text``: I, P, B in order of presentation, ``!`` after a corrupt one.

    ``refused``: numbers of packets that the decoder refuses just before the frame of that number is shown.
    """
    steps = []
    for token in text.split():
        number = len(steps)
        frame = SimpleNamespace(
            pts=number, is_corrupt=token.endswith("!"), key_frame=token[0] == "I", pict_type=PictureType[token[0]], number=number
        )
        steps.append(([frame], str(number) in refused.split(), number))
    damage = Damage()
    return " ".join(str(frame.number) for frame in _undamaged(iter(steps), damage)), damage


def test_undamaged_frames_pass():
    assert kept("I B B P B B P") == ("0 1 2 3 4 5 6", Damage())


def test_b_frames_shown_before_a_corrupt_reference_are_left_out_with_it():
    numbers, damage = kept("I B B P B B P! B B P I P")
    assert numbers == "0 1 2 3 10 11"
    assert damage.left_out == 6 + 0


def test_everything_up_to_the_next_key_frame_is_left_out():
    assert kept("I P P! P P I P")[0] == "0 1 5 6"


def test_a_key_frame_that_was_refused_itself_does_not_end_the_damage():
    numbers, damage = kept("I P P I P P I P", refused="3")
    assert numbers == "0 1 2 6 7"
    assert (damage.corrupt_packets, damage.left_out) == (1, 3)


def test_b_frames_at_the_end_pass():
    assert kept("I P B B")[0] == "0 1 2 3"


def test_damage_stops_a_decoding_with_several_threads(tmp_path):
    path = damaged_copy(tmp_path, "libx264")
    with open_video_source(path, lambda: None) as source, pytest.raises(DamageFound):
        list(decode(source, threads=4, from_s=None, damage=Damage()))
    damage = Damage()
    with open_video_source(path, lambda: None) as source:
        list(decode(source, threads=1, from_s=None, damage=damage))
    assert damage.found
