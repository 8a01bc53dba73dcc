"""Writing artifacts: whole or absent, the same bytes for the same work, whoever is killed when."""

import itertools
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import SMALL_DISK_BYTES
from tests.killing import kill_at, leftovers, moments
from tests.videolift.artifacts.conftest import KINDS, content
from videolift.artifacts import Clip, ClipWriter, Depth, DepthWriter, Hands, HandsWriter
from videolift.artifacts.fields import Field
from videolift.errors import CorruptFile
from videolift.store import sha256_file


def test_what_was_written_is_what_is_read(kind, tmp_path):
    path = kind.write(tmp_path / "a.h5")
    with kind.reader(path) as artifact:
        assert len(artifact) == 7
        for field in kind.reader.FIELDS:
            assert artifact.read(field.name).dtype == np.dtype(field.dtype)


def test_equal_work_gives_equal_bytes(tmp_path):
    first = {name: kind.write(tmp_path / f"{name}.h5").read_bytes() for name, kind in KINDS.items()}
    time.sleep(1.1)  # a time stamp of a second's resolution would show
    assert {name: kind.write(tmp_path / f"{name}-again.h5").read_bytes() for name, kind in KINDS.items()} == first


def test_published_says_what_lies_on_the_disk(kind, tmp_path):
    writer = kind.writer(tmp_path / "a.h5")
    kind.head(writer)
    kind.fill(writer, 0, 3)
    published = writer.publish()
    assert (published.path, published.bytes) == (tmp_path / "a.h5", (tmp_path / "a.h5").stat().st_size)
    assert published.sha256 == sha256_file(published.path)
    assert leftovers(tmp_path) == []


def test_nothing_is_visible_before_publication_and_nothing_stays_after_discard(kind, tmp_path):
    writer = kind.writer(tmp_path / "a.h5")
    kind.head(writer)
    kind.fill(writer, 0, 3)
    (writer.scratch() / "notes").write_text("x")
    assert not (tmp_path / "a.h5").exists()
    writer.discard()
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_fails_its_own_checks_is_not_published(tmp_path):
    writer = ClipWriter(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="expected"):
        writer.append(pts_seconds=np.zeros((2, 2)))
    writer.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda w: w.append(T_camera_world=np.zeros((2, 3, 4))), r"T_camera_world has shape \(2, 3, 4\), expected \(-1, 4, 4\)"),
        (lambda w: w.append(K=np.eye(3)), "K does not grow; use put"),
        (lambda w: w.put(K=np.eye(4)), r"K has shape \(4, 4\), expected \(3, 3\)"),
        (lambda w: [w.append(depth=np.zeros((1, 4, h))) for h in (4, 5)], r"depth has shape \(1, 4, 5\) after \(1, 4, 4\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_both_shapes(tmp_path, call, said):
    writer = DepthWriter(tmp_path / "a.h5")
    with pytest.raises(ValueError, match=said):
        call(writer)
    writer.discard()


@pytest.mark.parametrize("steps", [[1] * 40, [40], [7, 33], [16, 16, 8], [0, 5, 0, 35]], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_may_come_in_any_number(tmp_path, steps, axis):
    class Writer(ClipWriter):
        FIELDS = (Field("x", "i4", (-1, 3) if axis == 0 else (3, -1), chunk=8),)
        ROWS = "x"

    rows = np.arange(120).reshape(40, 3)
    writer, buffer = Writer(tmp_path / "a.h5"), np.empty((40, 3), np.int32)
    for start, stop in itertools.pairwise(itertools.accumulate(steps, initial=0)):
        part = buffer[: stop - start]
        part[:] = rows[start:stop]
        writer.append(x=part if axis == 0 else part.T)
        part[:] = -1  # a caller may use its array again
    writer.publish()

    class Reader(Clip):
        FIELDS = Writer.FIELDS

        def _validate(self):
            pass

    with Reader(tmp_path / "a.h5") as artifact:
        np.testing.assert_array_equal(artifact.read("x"), rows if axis == 0 else rows.T)


def test_many_small_appends_cost_as_much_each_as_a_few(tmp_path):
    def seconds(frames):
        writer = HandsWriter(tmp_path / "a.h5")
        KINDS["hands"].head(writer)
        started = time.process_time()
        KINDS["hands"].fill(writer, 0, frames)
        spent = time.process_time() - started
        writer.discard()
        return spent / frames

    seconds(50)
    few = min(seconds(100) for _ in range(3))
    assert seconds(2000) < 6 * few  # twenty times as much each, if all were copied for every one


def test_attributes_keep_their_types(tmp_path):
    writer = ClipWriter(tmp_path / "a.h5")
    KINDS["clip"].fill(writer, 0, 2)
    written = {"text": "naïve 手", "empty": "", "whole": 3, "half": 0.5, "yes": True, "none": None, "list": [1, "a"]}
    written |= {
        "map": {"a": {"b": [None]}},
        "marked": "json:is text",
        "nul": "a\0b",
        "long": "x" * 100_000,
        "numpy": np.float32(0.25),
    }
    writer.describe(**written)
    writer.publish()
    with Clip(tmp_path / "a.h5") as clip:
        assert {name: clip.attrs[name] for name in written} == written
        assert type(clip.attrs["whole"]) is int
        assert type(clip.attrs["numpy"]) is float


def test_a_killed_writer_never_leaves_a_final_name_that_does_not_read(kind, tmp_path):
    def write():
        for k in range(2):
            kind.write(tmp_path / f"{k}.h5")

    seen = set()
    for moment in moments(write, 25):
        for path in tmp_path.iterdir():
            path.unlink()
        assert not kill_at(moment, write)
        found = sorted(tmp_path.glob("[0-9].h5"))
        for path in found:
            content(kind.reader, path)
        seen.add((len(found), bool(leftovers(tmp_path))))
    assert {(0, False), (0, True), (1, True)} <= seen  # before, in the middle of and after the first file


def _in_segments(kind, folder):
    writer = kind.writer(folder / "a.h5", segments=folder / "segments")
    kind.head(writer)
    for start in range(writer.committed, 20, 4):
        kind.fill(writer, start, min(start + 4, 18))
        if start + 4 <= 18:
            writer.commit()
    writer.publish()


def test_work_in_segments_gives_the_same_content_as_in_one_go(kind, tmp_path):
    (tmp_path / "parts").mkdir()
    _in_segments(kind, tmp_path / "parts")
    assert content(kind.reader, tmp_path / "parts" / "a.h5") == content(kind.reader, kind.write(tmp_path / "whole.h5", 18))
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["a.h5"]


def test_killed_at_any_moment_and_resumed_gives_equal_bytes(kind, tmp_path):
    (tmp_path / "straight").mkdir()
    resumed = set()
    for attempt, moment in enumerate(moments(lambda: _in_segments(kind, tmp_path / "straight"), 10)):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        assert not kill_at(moment, lambda folder=folder: _in_segments(kind, folder))
        resumed.add(kind.writer(folder / "a.h5", segments=folder / "segments").committed)
        _in_segments(kind, folder)
        assert (folder / "a.h5").read_bytes() == (tmp_path / "straight" / "a.h5").read_bytes()
        assert not (folder / "segments").exists()
    assert {0, 4, 8, 12, 16} <= resumed


def test_work_goes_on_where_the_last_segment_ended(kind, tmp_path):
    writer = kind.writer(tmp_path / "a.h5", segments=tmp_path / "segments")
    kind.head(writer)
    kind.fill(writer, 0, 4)
    writer.commit()
    kind.fill(writer, 4, 6)
    writer.commit()
    kind.fill(writer, 6, 7)
    writer.discard()
    assert kind.writer(tmp_path / "a.h5", segments=tmp_path / "segments").committed == 6


def test_a_damaged_segment_and_those_after_it_are_done_again(kind, tmp_path):
    writer = kind.writer(tmp_path / "a.h5", segments=tmp_path / "segments")
    kind.head(writer)
    for start in (0, 4, 8):
        kind.fill(writer, start, start + 4)
        writer.commit()
    writer.discard()
    second = sorted((tmp_path / "segments").glob("*.h5"))[1]
    second.write_bytes(second.read_bytes()[:-10])
    again = kind.writer(tmp_path / "a.h5", segments=tmp_path / "segments")
    assert again.committed == 4
    assert len(list((tmp_path / "segments").iterdir())) == 1


def test_a_segment_that_rotted_unseen_is_named_and_thrown_away(tmp_path):
    kind = KINDS["clip"]
    writer = ClipWriter(tmp_path / "a.h5", segments=tmp_path / "segments")
    kind.head(writer)
    kind.fill(writer, 0, 8)
    writer.commit()
    (segment,) = (tmp_path / "segments").glob("*.h5")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with pytest.raises(CorruptFile, match=segment.name):
        writer.publish()
    assert not (tmp_path / "a.h5").exists()
    assert ClipWriter(tmp_path / "a.h5", segments=tmp_path / "segments").committed == 0


def test_parts_of_a_killed_attempt_are_kept_until_publication(tmp_path):
    def writer():
        return DepthWriter(tmp_path / "a.h5", segments=tmp_path / "segments")

    assert writer().load_part("poses") is None
    writer().save_part("poses", E=np.eye(4), names=np.array(["a", "b"]))
    found = writer().load_part("poses")
    np.testing.assert_array_equal(found["E"], np.eye(4))
    last = writer()
    KINDS["depth"].head(last)
    KINDS["depth"].fill(last, 0, 2)
    last.publish()
    assert writer().load_part("poses") is None


def test_without_a_folder_for_segments_commits_do_nothing(kind, tmp_path):
    writer = kind.writer(tmp_path / "a.h5")
    kind.head(writer)
    kind.fill(writer, 0, 3)
    writer.commit()
    kind.fill(writer, 3, 7)
    assert writer.publish().path.read_bytes() == kind.write(tmp_path / "b.h5").read_bytes()


def test_without_a_folder_for_segments_parts_last_as_long_as_the_attempt(tmp_path):
    writer = DepthWriter(tmp_path / "a.h5")
    assert (writer.load_part("x"), writer.saved_parts()) == (None, [])
    writer.save_part("x", a=[1])
    assert writer.load_part("x")["a"].tolist() == [1]
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_was_dropped_is_gone(tmp_path):
    writer = DepthWriter(tmp_path / "a.h5", segments=tmp_path / "segments")
    writer.save_part("x", a=[1])
    writer.save_part("y", a=[2])
    writer.drop_part("x")
    assert writer.saved_parts() == ["y"]
    assert writer.load_part("x") is None


def test_a_restarted_artifact_forgets_what_was_committed(kind, tmp_path):
    writer = kind.writer(tmp_path / "a.h5", segments=tmp_path / "segments")
    kind.head(writer)
    kind.fill(writer, 0, 3)
    writer.commit()
    again = kind.writer(tmp_path / "a.h5", segments=tmp_path / "segments")
    assert again.committed == 3
    again.restart()
    assert again.committed == 0
    kind.head(again)
    kind.fill(again, 0, 7)
    assert again.publish().path.read_bytes() == kind.write(tmp_path / "b.h5").read_bytes()


FILL_AND_WRITE = """
import shutil, sys
from pathlib import Path
import numpy as np
from videolift.artifacts import ClipWriter
from videolift.errors import Transient
folder, size = Path(sys.argv[1]), int(sys.argv[2])
frames = np.random.default_rng(0).integers(0, 255, (8, 96, 128, 3), dtype=np.uint8)
for segments in (None, folder / "segments"):
    for free in (0, 4096, 8192, 50_000, 300_000, 900_000, 1_180_000, 1_184_000, 1_400_000):
        (folder / "full").write_bytes(bytes(size - free))
        try:
            writer = ClipWriter(folder / "a.h5", segments=segments)
            for k in range(4):
                writer.append_frames(frames, np.arange(8) + 8 * k)
                writer.commit()
            writer.publish()
            print("published", free)
        except Transient as error:
            assert "No space left" in str(error) and "Free space" in str(error), error
            print("transient", free)
        finally:
            writer.discard()
            left = {p.name for p in folder.iterdir()} - {"full", "segments"}
            assert left <= {"a.h5"}, left
        shutil.rmtree(folder / "segments", ignore_errors=True)
        for path in folder.iterdir():
            path.unlink()
"""


def test_a_full_disk_is_transient_wherever_it_strikes_and_the_process_ends_well(small_disk):
    command = [sys.executable, "-c", FILL_AND_WRITE, str(small_disk), str(SMALL_DISK_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    ends = [line.split()[0] for line in done.stdout.splitlines()]
    assert len(ends) == 18
    assert ends[0] == ends[9] == "transient"
    assert ends[8] == "published"


def test_after_space_is_freed_the_same_work_gives_the_same_bytes(small_disk, tmp_path):
    truth = KINDS["depth"].write(tmp_path / "a.h5", 200).read_bytes()
    filler = small_disk / "full"
    filler.write_bytes(bytes(SMALL_DISK_BYTES - len(truth) // 2))
    with pytest.raises(Exception, match="No space left"):
        KINDS["depth"].write(small_disk / "a.h5", 200)
    filler.unlink()
    assert KINDS["depth"].write(small_disk / "a.h5", 200).read_bytes() == truth
    with Depth(small_disk / "a.h5") as depth:
        assert len(depth) == 200


def test_fields_without_a_row_are_there(tmp_path):
    writer = KINDS["tracks"].writer(tmp_path / "a.h5")
    KINDS["tracks"].head(writer)
    with KINDS["tracks"].reader(writer.publish().path) as tracks:
        assert len(tracks) == 0


def test_hands_of_long_videos_are_read_whole(tmp_path):
    with Hands(KINDS["hands"].write(tmp_path / "a.h5", 300)) as hands:
        assert hands.valid.shape == (300, 2)
        assert (tmp_path / "a.h5").stat().st_size < 1_000_000  # 2 kB per frame and not 1 MB per chunk
