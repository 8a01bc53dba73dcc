"""The user's CSV: what every column means, and mistakes named by line and column."""

import re
from pathlib import Path

import pytest

from videolift.errors import ConfigError
from videolift.inputs.table import COLUMNS, read_table
from videolift.inputs.video import Video, video_id


def table(folder: Path, text: str, **options) -> list[Video]:
    (folder / "list.csv").write_text(text, **options)
    return read_table(folder / "list.csv")


@pytest.fixture
def folder(tmp_path) -> Path:
    home = tmp_path / "set"
    (home / "masks").mkdir(parents=True)
    for name in ("a.mp4", "b c.mp4", "a.npz", "K.json", "../outside.mp4"):
        (home / name).write_bytes(b"12345")
    return home


def test_every_column_reaches_its_field(folder):
    (video,) = table(
        folder,
        "video,path,text,depth,mask,calib,start,end,subject,split,mood\n"
        'first,a.mp4,"pour, then stir",a.npz,masks,K.json,0.5,2,s1,train,calm\n',
    )
    assert video == Video(
        id="first",
        path=str(folder / "a.mp4"),
        bytes=5,
        mtime_ns=(folder / "a.mp4").stat().st_mtime_ns,
        depth=folder / "a.npz",
        mask=folder / "masks",
        calib=folder / "K.json",
        start_s=0.5,
        end_s=2.0,
        text="pour, then stir",
        subject="s1",
        split="train",
        metadata={"mood": "calm"},
    )


def test_rows_keep_the_order_of_the_table_and_ids_come_from_paths(folder):
    found = table(folder, "path\nb c.mp4\na.mp4\n\n../outside.mp4\n")
    assert [video.id for video in found] == [video_id("b c.mp4"), "a", video_id("../outside.mp4")]
    assert found[2].id.startswith("outside-")
    assert found[2].path == str(folder.parent / "outside.mp4")


@pytest.mark.parametrize("path", ["/lab/alice/videos/cup.mp4", "../alice/cup.mp4"])
def test_an_id_tells_nothing_of_the_folders_above_the_list(folder, path):
    (video,) = table(folder, f"path\n{path}\n")
    assert re.fullmatch("cup-[0-9a-f]{8}", video.id)


def test_an_absolute_path_inside_the_folder_gets_the_id_of_the_relative_one(folder):
    (video,) = table(folder, f"path\n{folder}/a.mp4\n")
    assert video.id == "a"


def test_ids_do_not_depend_on_where_the_folder_lies(folder, tmp_path):
    text = "path\nb c.mp4\n../outside.mp4\n"
    before = [video.id for video in table(folder, text)]
    moved = folder.rename(tmp_path / "moved")
    assert [video.id for video in read_table(moved / "list.csv")] == before


def test_a_byte_order_mark_and_windows_line_ends_are_read(folder):
    (video,) = table(folder, "path,text\r\na.mp4,über\r\n", encoding="utf-8-sig")
    assert (video.id, video.text) == ("a", "über")


def test_a_missing_source_is_listed_so_that_its_finished_work_is_known(folder):
    (video,) = table(folder, "path\ngone.mp4\n")
    assert (video.id, video.missing, video.bytes) == ("gone", True, 0)


def test_a_start_of_zero_is_the_beginning(folder):
    assert table(folder, "path,start\na.mp4,0\n") == table(folder, "path\na.mp4\n")


def test_two_parts_of_one_video_are_told_apart_by_the_column_video(folder):
    found = table(folder, "video,path,start,end\nreach,a.mp4,0,2\nlift,a.mp4,2,4\n")
    assert [video.id for video in found] == ["reach", "lift"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file\na.mp4\n", "line 1: no column `path` among 'file'"),
        ("Path;text\na.mp4;x\n", "no column `path` among 'Path;text'.*separated by commas"),
        ("path,path\na.mp4,a.mp4\n", "line 1: the column 'path' is there 2 times"),
        ("path,text\na.mp4,pour, then stir\n", "line 2: 3 cells under 2 columns"),
        ("path,text\n,empty\n", "line 2, column path: '' is empty"),
        ("video,path\n../../etc/x,a.mp4\n", "line 2, column video: '../../etc/x' is not an id"),
        ("video,path\n-rf,a.mp4\n", "line 2, column video: '-rf' is not an id"),
        ('video,path\n"a\nb",a.mp4\n', "line 3, column video"),
        ("path\nhttps://example.org/a.mp4\n", "line 2, column path: 'https://example.org/a.mp4' is a URL"),
        ("path\nfile:///etc/passwd\n", "is a URL"),
        ("path\n/dev/zero\n", "line 2, column path: '/dev/zero' is not a regular file"),
        ("path\nmasks\n", "is not a regular file"),
        ("path,depth\na.mp4,masks\n", "line 2, column depth: 'masks' is not a regular file"),
        ("path,depth\na.mp4,gone.npz\n", "line 2, column depth: 'gone.npz' does not exist"),
        ("path,calib\na.mp4,ftp://k\n", "line 2, column calib: 'ftp://k' is a URL"),
        ("path,mask\na.mp4,/dev/null\n", "line 2, column mask: '/dev/null' is not a regular file"),
        ("path,start\na.mp4,soon\n", "line 2, column start: 'soon' is not a number of seconds"),
        ("path,start\na.mp4,-1\n", "line 2, column start: '-1' must be 0 or more"),
        ("path,end\na.mp4,nan\n", "line 2, column end: 'nan' must be 0 or more"),
        ("path,start,end\na.mp4,3,2\n", r"line 2, column end: '2' must be after start \(3 s\)"),
        ("path\na.mp4\x00\n", "line 2"),
        ('path\n"a.mp4\n', "line 2: unexpected end of data"),
        ("path\n" + "x" * 200_000 + "\n", "line 2: field larger than field limit"),
    ],
)
def test_a_mistake_is_named_with_line_and_column(folder, text, said):
    with pytest.raises(ConfigError, match=said) as error:
        table(folder, text)
    assert "list.csv" in str(error.value)


def test_text_that_is_not_utf8_says_how_to_save_it(folder):
    with pytest.raises(ConfigError, match="not UTF-8 at byte 17; save the table as CSV UTF-8"):
        table(folder, "path,text\na.mp4,Löffel\n", encoding="latin-1")


DOCS = (Path(__file__).parents[3] / "docs" / "videos.md").read_text()


def test_the_docs_name_every_column():
    assert tuple(re.findall(r"^\| `(\w+)` \|", DOCS, re.M)) == COLUMNS


def test_the_example_of_the_docs_is_read(tmp_path):
    (tmp_path / "table").mkdir()
    for name in ("pour.mp4", "pour.npz", "long.mp4"):
        (tmp_path / "table" / name).touch()
    found = table(tmp_path, DOCS.split("```csv\n")[1].split("```")[0])
    assert [(video.id, video.start_s, video.end_s) for video in found] == [
        ("table__pour", None, None),
        ("reach", None, 4.5),
        ("lift", 4.5, 9.0),
    ]
    assert found[0].depth == tmp_path / "table" / "pour.npz"
    assert found[2].text == "reach, then lift"
    assert found[0].metadata == {"kitchen": "A"}


def test_the_ids_of_the_docs_are_the_ones_given():
    assert "`kitchen__day-1__cut-97fa220f`" in DOCS
    assert video_id("kitchen/day 1/cut.MOV") == "kitchen__day-1__cut-97fa220f"


def test_a_table_with_a_million_columns_is_refused_at_once(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text(",".join(["path", *map(str, range(1_000_000))]) + "\n")
    with pytest.raises(ConfigError, match="1000001 columns, at most 1000"):
        read_table(path)


def test_a_path_in_a_home_that_nobody_has_is_named_with_its_line(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("path\n~nosuchuser/a.mp4\n")
    with pytest.raises(ConfigError, match=r"line 2, column path: .* this machine knows no such user"):
        read_table(path)
