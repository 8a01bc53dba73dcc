"""Output folders: one with artifacts that are exactly the truth of a small rendered clip, and one of a whole run around it."""

import shutil

import pytest

from stages.backend import Inputs
from stages.create_h5.hdf5 import BACKEND
from stages.sample import Truth, render
from stages.sample.artifacts import write_truth_artifacts
from tests.blocks import blocks_of
from videolift.artifacts import Clip, Depth, Hands, Published, Tracks
from videolift.config import Config
from videolift.dataset import PackagedVideo, publish_dataset
from videolift.inputs.video import Video
from videolift.paths import Layout
from videolift.records.freshness import Variant, judge
from videolift.records.receipts import Reason, Receipt, record, write_receipt
from videolift.records.record_reader import RecordReader
from videolift.records.runs import Entry, write_run
from videolift.store import sha256_file

NAMES = {"ingest": "pyav", "depth": "rgbd", "tracks": "flow", "hands": "mediapipe", "create_h5": "hdf5"}
IDENTITIES = {stage: {"name": name, "version": 1} for stage, name in NAMES.items()}


def finish(output, video, stage, **about):
    """Writes the receipt that judges as fresh, with the artifact in the output folder where there is one."""
    layout = Layout(output)
    state = judge(video, Variant(IDENTITIES), RecordReader(layout), output, hash_new=True)[stage]
    path, artifact = layout.artifact(stage, video.id), None
    if path.exists():
        artifact = record(Published(path, path.stat().st_size, path.stat().st_mtime_ns, sha256_file(path)), output)
    known = {"state": "done", "artifact": artifact, "seconds": 1.5, "frames": 34} | about
    receipt = Receipt(
        video.id, stage, fingerprint=state.fingerprint, backend=IDENTITIES[stage], inputs=state.inputs, files=state.files, **known
    )
    write_receipt(layout.receipt(stage, video.id), receipt)


def package_pick(output):
    """Packages the artifacts of ``pick``."""
    block = blocks_of("pick")["create_h5"].model_copy(update={"window_length": 8, "size": 96})
    backend, layout = BACKEND(block, root=output), Layout(output)
    kinds = {"clip": ("ingest", Clip), "depth": ("depth", Depth), "tracks": ("tracks", Tracks), "hands": ("hands", Hands)}
    parts = {name: kind(layout.artifact(stage, "pick")) for name, (stage, kind) in kinds.items()}
    out = backend.writer(layout.artifact("create_h5", "pick"))
    backend.process(Inputs(video=Video("pick", f"{output}/pick.mp4"), **parts), out, shrink=1.0, progress=lambda done, of: None)
    return out.publish()


@pytest.fixture(scope="session")
def run_output(output, tmp_path_factory):
    mine = tmp_path_factory.mktemp("run")
    shutil.copytree(output, mine, dirs_exist_ok=True)
    videos = {}
    for name in ("pick", "broken", "waiting"):
        source = mine / f"{name}.mp4"
        source.write_bytes(name.encode())
        videos[name] = Video(name, str(source), source.stat().st_size, source.stat().st_mtime_ns)
    finish(mine, videos["pick"], "ingest")
    finish(mine, videos["pick"], "depth", figures={"valid_share": 0.9876543}, checks=("depth given in <metres>",))
    finish(mine, videos["pick"], "tracks")
    finish(mine, videos["pick"], "hands")
    packaged = package_pick(mine)
    finish(mine, videos["pick"], "create_h5")
    row = PackagedVideo("pick", packaged.path, packaged.sha256, packaged.bytes)
    publish_dataset(mine / "h5_dataset", [row], left_out={"broken": "audio only"})
    why = Reason("bad_input", "audio_only", "there is <no> video stream", "Give a file with pictures.")
    finish(mine, videos["broken"], "ingest", state="quarantined", reason=why)
    entries = [Entry(video, "b0") for video in videos.values()]
    write_run(
        Layout(mine).run("abc"), Config(videos="somewhere"), [Variant(IDENTITIES)], entries, {"excluded": {"gone": "wrong person"}}
    )
    return mine


@pytest.fixture(scope="session")
def truth() -> Truth:
    return render("orbit_rgbd", frames=34, width=192, height=144)


@pytest.fixture(scope="session")
def output(truth, tmp_path_factory):
    path = tmp_path_factory.mktemp("output")
    write_truth_artifacts(path, "pick", truth, window_length=8, grid_px=6)
    return path
