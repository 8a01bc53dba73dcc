"""Listing videos: folders with unfriendly names, ids that stay, names that attack."""

import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videolift.config import Config
from videolift.errors import ConfigError
from videolift.inputs.catalog import list_videos, select, shard_of, video_id
from videolift.inputs.video import Video
from videolift.paths import ID


def listed(folder: Path, **settings) -> list[Video]:
    return list_videos(Config(videos=str(folder), **settings), root=folder.parent)


def ids(folder: Path, *names: str) -> dict[str, str]:
    """Listed file name to id, for a folder that holds empty files of these names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return {os.path.relpath(video.path, folder): video.id for video in listed(folder)}


def test_shards_share_the_videos_and_a_new_one_moves_none(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(40):
        (folder / f"take{number}.mp4").write_bytes(b"x")
    before = [{video.id for video in listed(folder, shards=4, shard=shard)} for shard in range(4)]
    assert sorted(video for ids in before for video in ids) == sorted(video.id for video in listed(folder))
    assert all(len(ids) > 2 for ids in before)
    (folder / "new.mp4").write_bytes(b"x")
    after = [{video.id for video in listed(folder, shards=4, shard=shard)} for shard in range(4)]
    assert all(old <= new for old, new in zip(before, after, strict=True))


def test_a_shard_without_a_video_says_so(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "take.mp4").write_bytes(b"x")
    empty = 1 - shard_of("take", 2)
    with pytest.raises(ConfigError, match=f"shard {empty} of 2 gets none of the 1 videos .*: name fewer shards"):
        listed(folder, shards=2, shard=empty)


def test_id_is_the_path_without_suffix(tmp_path):
    assert ids(tmp_path, "grasp.mp4", "kitchen/day 1/cut.MOV", "kitchen/pour.webm") == {
        "grasp.mp4": "grasp",
        "kitchen/pour.webm": "kitchen__pour",
        "kitchen/day 1/cut.MOV": "kitchen__day-1__cut-97fa220f",
    }


@pytest.mark.parametrize(
    "name",
    [
        "two words.mp4",
        'it\'s "quoted".mp4',
        "Hände 手.mov",
        "-rf.mp4",
        ";rm -rf ~;.mp4",
        "$(touch x).mkv",
        "a\nb.mp4",
        "x" * 120 + ".mp4",
    ],
)
def test_unfriendly_names_get_safe_ids(tmp_path, name):
    (found,) = ids(tmp_path, name).items()
    assert found[0] == name
    assert ID.fullmatch(found[1])
    assert len(found[1]) <= 100
    assert found[1] == video_id(name)


def test_file_name_that_is_not_utf8_is_listed(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4"), "wb"):
        (video,) = listed(tmp_path)
    assert ID.fullmatch(video.id)
    assert os.path.exists(video.path)
    assert Video.from_row(video.to_row()) == video


def test_files_that_differ_in_suffix_only_both_carry_a_hash(tmp_path):
    found = ids(tmp_path, "a.mp4", "a.mov", "b.mp4")
    assert found["b.mp4"] == "b"
    assert found["a.mp4"] == video_id("a.mp4", shared_stem=True) != found["a.mov"]
    assert all(name.startswith("a-") for name in (found["a.mp4"], found["a.mov"]))


def test_other_files_do_not_change_an_id(tmp_path):
    before = ids(tmp_path, "one.mp4", "two words.mp4")
    after = ids(tmp_path, "another.mp4", "two-words.mp4", "sub/one.mp4")
    assert before.items() <= after.items()


@pytest.mark.parametrize(("one", "other"), [("Cut.mp4", "cut.mov"), ("a/b.mp4", "a__b.mp4")])
def test_equal_ids_are_refused_with_both_paths(tmp_path, one, other):
    with pytest.raises(ConfigError) as error:
        ids(tmp_path, one, other)
    assert one in str(error.value)
    assert other in str(error.value)


def test_hidden_files_other_suffixes_and_our_own_output_are_not_listed(tmp_path):
    for name in ("._clip.mp4", ".cache/c.mp4", "notes.txt", "mp4", "out/preview.mp4", "lost+found/x.mp4", "clip.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [video.id for video in listed(tmp_path, output=str(tmp_path / "out"))] == ["clip"]


def test_links_are_followed_to_files_only_and_their_target_recorded(tmp_path):
    videos, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    videos.mkdir()
    elsewhere.mkdir()
    (elsewhere / "object-77").write_bytes(b"12345")
    (elsewhere / "inside.mp4").touch()
    (videos / "linked.mp4").symlink_to(elsewhere / "object-77")
    (videos / "folder.mp4").symlink_to(elsewhere)
    (videos / "loop").symlink_to(videos)
    (video,) = listed(videos)
    assert (video.id, video.path, video.bytes) == ("linked", str(elsewhere / "object-77"), 5)


def test_dangling_and_circular_links_are_listed_as_missing(tmp_path):
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.mp4").symlink_to(tmp_path / "self.mp4")
    assert [(video.id, video.missing) for video in listed(tmp_path)] == [("gone", True), ("self", True)]


def test_a_pipe_named_like_a_video_is_not_listed(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "clip.mp4").touch()
    assert [video.id for video in listed(tmp_path)] == ["clip"]


def test_folders_nested_without_end_are_refused(tmp_path):
    (tmp_path / "/".join(["deep"] * 40)).mkdir(parents=True)
    with pytest.raises(ConfigError, match="folders deep"):
        listed(tmp_path)


def test_order_does_not_depend_on_the_file_system(tmp_path):
    names = ["b.mp4", "a/z.mp4", "a.mp4", "B2.mp4", "a/b.mp4"]
    ids(tmp_path, *names)
    assert [video.id for video in listed(tmp_path)] == sorted(video_id(name) for name in names)


def test_size_and_time_are_those_of_the_file(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x" * 1000)
    os.utime(tmp_path / "a.mp4", ns=(5, 1_700_000_000_123_456_789))
    (video,) = listed(tmp_path)
    assert (video.bytes, video.mtime_ns, video.missing) == (1000, 1_700_000_000_123_456_789, False)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), r"no videos in .*\.mp4, \.mov, \.mkv, \.avi, \.webm"),
        (lambda path: path.touch(), "one file"),
        (lambda path: None, "there is no folder or CSV at"),
    ],
)
def test_nothing_to_work_on_is_an_error_that_says_where_it_looked(tmp_path, make, said):
    make(tmp_path / "videos")
    with pytest.raises(ConfigError, match=said) as error:
        listed(tmp_path / "videos")
    assert str(tmp_path / "videos") in str(error.value)


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ConfigError, match="cannot be listed: Permission denied"):
        listed(tmp_path)


def test_sample_is_listed_before_it_is_rendered_and_alike_afterwards(tmp_path):
    row = Video("orbit", f"{tmp_path}/output/sample/orbit.mp4", version="3")
    config = Config(videos="sample")
    assert list_videos(config, root=tmp_path, sample_rows=[row]) == [row]
    with pytest.raises(ConfigError, match="not rendered yet"):
        list_videos(config, root=tmp_path)
    folder = Path(row.path).parent
    folder.mkdir(parents=True)
    (folder / "orbit.mp4").write_bytes(b"video")
    (folder / "videos.csv").write_text("video,path,version\norbit,orbit.mp4,3\n")
    assert list_videos(config, root=tmp_path) == [row]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=150), st.booleans())
def test_every_path_has_a_safe_id_that_no_other_path_has(relative, shared):
    name = video_id(relative + ".mp4", shared_stem=shared)
    assert ID.fullmatch(name)
    assert len(name) <= 100
    assert name != video_id(relative + ".mov", shared_stem=True)


@given(st.text(string.ascii_letters + string.digits + "._-/", max_size=40))
def test_hashed_and_plain_ids_of_one_path_differ(relative):
    assert video_id("v" + relative + ".mp4") != video_id("v" + relative + ".mp4", shared_stem=True)


def test_select_takes_ids_and_patterns_in_the_order_of_the_list():
    videos = [Video(name, "") for name in ("kitchen__b", "hall__a", "kitchen__a")]
    assert [v.id for v in select(videos, ["kitchen__*", "hall__a"])] == ["kitchen__b", "hall__a", "kitchen__a"]
    assert [v.id for v in select(videos, ["hall__a"])] == ["hall__a"]
    assert select(videos, []) == videos


def test_select_names_the_nearest_id():
    with pytest.raises(ConfigError, match="did you mean kitchen__a"):
        select([Video("kitchen__a", ""), Video("hall", "")], ["kitchen_a"])


def test_a_row_survives_json_with_everything_set(tmp_path):
    full = Video(
        "a",
        f"{tmp_path}/a",
        1,
        2,
        tmp_path / "d",
        tmp_path / "m",
        tmp_path / "c",
        0.5,
        2.0,
        "pour",
        "s1",
        "train",
        {"x": "y"},
        "1",
        True,
    )
    assert Video.from_row(full.to_row()) == full
    assert list(full.to_row())[0] == "id"
    assert Video("b", "/b").to_row() == {"id": "b", "path": "/b"}
