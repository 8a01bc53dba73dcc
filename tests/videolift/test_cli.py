"""Commands as a terminal gives them: what is handed to a checkout, and two of one kind at once."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.videolift.dataset.conftest import write_packaged
from videolift.dataset import publish_dataset
from videolift.dataset.publish import MERGE_LEASE

ROOT = Path(__file__).parents[2]

HOLD = """
import sys, time
from pathlib import Path
from videolift.records.leases import Lease
with Lease.acquire(Path(sys.argv[1]), wait_s=0):
    print("held", flush=True)
    time.sleep(600)
"""


def videolift(folder: Path, *arguments: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-c", "from videolift.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)


@pytest.fixture
def other_merge(tmp_path):
    """A process that merges into the folder ``whole``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "whole" / MERGE_LEASE)]
    process = subprocess.Popen(command, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_project_folder_outside_the_checkout_can_be_planned(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"no video")
    (tmp_path / "config.yaml").write_text("videos: videos\noutput: output\n")
    done = videolift(tmp_path, "plan")
    assert done.returncode == 0, done.stderr
    assert f"1 video in {tmp_path / 'output'}" in done.stdout


def test_a_second_merge_into_one_folder_stops_and_takes_over_from_a_dead_one(tmp_path, other_merge):
    publish_dataset(tmp_path / "shard", [write_packaged(tmp_path / "shard" / "v01.hdf5", 1)], left_out={})
    refused = videolift(tmp_path, "merge", "whole", "shard")
    assert refused.returncode != 0
    assert f"the merge into whole is being worked on by pid {other_merge.pid}" in refused.stderr
    assert [path.name for path in (tmp_path / "whole").iterdir()] == [MERGE_LEASE]
    other_merge.kill()
    other_merge.wait()
    merged = videolift(tmp_path, "merge", "whole", "shard")
    assert merged.returncode == 0, merged.stderr
    assert (tmp_path / "whole" / "v01.hdf5").samefile(tmp_path / "shard" / "v01.hdf5")
    assert not list((tmp_path / "whole").glob(".*"))


def test_a_merge_writes_in_its_own_folder_alone(tmp_path):
    publish_dataset(tmp_path / "shard", [write_packaged(tmp_path / "shard" / "v01.hdf5", 1)], left_out={})
    out = tmp_path / "shelf" / "whole"
    out.mkdir(parents=True)
    out.parent.chmod(0o555)
    # Root may write everywhere, unless it gives that right away.
    as_anybody = ("setpriv", "--bounding-set=-all") if os.geteuid() == 0 else ()
    refused = videolift(tmp_path, "merge", "shelf/other", "shard", prefix=as_anybody)
    assert refused.returncode == 2
    assert "shelf/other cannot be written (Permission denied): name a folder in which you may write" in refused.stderr
    merged = videolift(tmp_path, "merge", "shelf/whole", "shard", prefix=as_anybody)
    assert merged.returncode == 0, merged.stderr
    assert "v01.hdf5" in [path.name for path in out.iterdir()]


def test_an_export_of_one_file_is_one_file(tmp_path):
    publish_dataset(tmp_path / "shard", [write_packaged(tmp_path / "shard" / "v01.hdf5", 1)], left_out={})
    done = videolift(tmp_path, "export", "y2r", "shard", "out")
    assert done.stdout.splitlines()[-1] == "wrote 1 file", done.stderr


def test_shapes_of_another_projects_file_are_printed_by_its_own_options(tmp_path):
    with h5py.File(tmp_path / "robot.h5", "w") as file:
        file["obs/top"], file["obs/qpos"] = np.zeros((5, 3, 4, 6), np.uint8), np.zeros((5, 7), np.float32)
    done = videolift(tmp_path, "shapes", "robot.h5", "--select", "keys={rgb: obs/top, state: obs/qpos}")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["video", "str"],
        ["rgb", "(3,", "4,", "6)", "uint8"],
        ["state", "(7,)", "float32"],
        ["5", "samples"],
    ]
    assert "--select keys has no value: write keys=64" in videolift(tmp_path, "shapes", "robot.h5", "--select", "keys").stderr
    refused = videolift(tmp_path, "shapes", "robot.h5", "--select", "keys={rgb: obs/top}", "--select", "point=64")
    assert refused.returncode == 2
    assert "no option point; it has keys, shapes, channels_last. A selection has camera, depth" in " ".join(refused.stderr.split())
