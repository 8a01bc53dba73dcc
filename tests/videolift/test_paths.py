"""Where artifacts lie: flat in a small output folder, in sub-folders in a large one; growing loses nothing."""

from collections import Counter

import pytest

from videolift.errors import ConfigError
from videolift.paths import FLAT_VIDEOS, Layout


def test_a_small_output_folder_is_flat(tmp_path):
    layout = Layout(tmp_path)
    layout.make_room(FLAT_VIDEOS)
    assert layout.artifact("depth", "pick") == tmp_path / "depth" / "pick.h5"
    assert layout.artifact("create_h5", "pick") == tmp_path / "h5_dataset" / "pick.hdf5"
    assert list(tmp_path.iterdir()) == []


def test_a_hundred_thousand_videos_leave_no_folder_above_ten_thousand_entries(tmp_path):
    layout = Layout(tmp_path)
    layout.make_room(100_000)
    folders = Counter(layout.artifact("depth", f"take{i:06d}").parent for i in range(100_000))
    assert len(folders) == 256
    assert max(folders.values()) < 500


def test_what_lies_flat_stays_when_an_output_folder_grows_beyond_the_limit(tmp_path):
    layout = Layout(tmp_path)
    old = layout.artifact("depth", "old")
    old.parent.mkdir()
    old.touch()
    layout.make_room(FLAT_VIDEOS + 1)
    assert layout.artifact("depth", "old") == old
    new = layout.artifact("depth", "new")
    assert new.parent.parent == old.parent
    new.parent.mkdir()
    new.touch()
    assert sorted(layout.all_artifacts("depth")) == sorted([old, new])


def test_a_lost_mark_loses_no_file(tmp_path):
    layout = Layout(tmp_path)
    layout.make_room(FLAT_VIDEOS + 1)
    path = layout.artifact("depth", "pick")
    path.parent.mkdir(parents=True)
    path.touch()
    for mark in (tmp_path / "batches").iterdir():
        mark.unlink()
    assert layout.artifact("depth", "pick") == path


def test_segments_in_work_are_found_again_after_the_limit_was_crossed(tmp_path):
    layout = Layout(tmp_path)
    before = layout.segments("depth", "pick", "f" * 64)
    layout.make_room(FLAT_VIDEOS + 1)
    assert layout.segments("depth", "pick", "f" * 64) == before


@pytest.mark.parametrize("video", ["", "..", "a/b", "-x", "a" * 101])
def test_no_path_is_made_of_what_is_no_id(tmp_path, video):
    with pytest.raises(ConfigError, match="is not a video id"):
        Layout(tmp_path).artifact("depth", video)
