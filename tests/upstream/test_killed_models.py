"""Every model but ViPE, with upstream's true code: killed in the middle of a video, another attempt ends with the same bytes."""

import os
import signal
from pathlib import Path

import pytest

from stages.backend import Inputs
from stages.depth import mapanything, moge
from stages.depth.networks import joining
from stages.hands import wilor
from stages.masks import sam2
from stages.models.model_process import ModelBackend
from stages.sample import render
from stages.sample.artifacts import write_truth_artifacts
from stages.tracks import tapip3d
from tests.blocks import blocks_of
from tests.upstream.small_sam2 import CONFIG, OVERRIDES
from videolift.artifacts import Clip, ClipWriter, Depth
from videolift.inputs.framing import Framing
from videolift.inputs.video import Video
from videolift.pool import Device

ROOT = Path(__file__).parents[2]
CPU = Device("cpu", "cpu", "CPU", 1 << 33)
T, H, W = 20, 96, 128


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """Clip and true depth of a camera on a tripod."""
    folder = tmp_path_factory.mktemp("truth")
    write_truth_artifacts(folder, "clip", render("tripod_rgbd", frames=T, width=W, height=H))
    with Clip(folder / "frames" / "clip.h5") as rendered:
        out = ClipWriter(folder / "clip.h5")
        out.append_frames(rendered[:], rendered.pts_seconds)
        framing = Framing.fit((W, H), (W, H), "auto").to_attrs()  # which objects need, and a rendered clip lacks
        out.describe(fps=rendered.fps, source={}, framing=framing)
    return {"clip": Clip(out.publish().path), "depth": Depth(folder / "depth" / "clip.h5")}


def settings_of(model, small, upstream, python):
    """Stage and its settings, with several segments in the clip."""
    folder = small(model, *((CONFIG, *OVERRIDES) if model == "sam2" else ()))
    checkout = {"moge": "MoGe", "tapip3d": "TAPIP3D", "mapanything": "map-anything", "sam2": "sam2"}.get(model)
    own = {"python": python, "checkout": str(upstream / checkout if checkout else folder / "WiLoR")}
    stage, changes = {
        "moge": ("depth", {"weights": str(folder / "moge.pt"), "utils3d": str(upstream / "utils3d"), "resolution_level": 0}),
        "mapanything": ("depth", {"weights": str(folder / "weights"), "side_px": 112}),
        "tapip3d": ("tracks", {"weights": str(folder / "tapip3d.pth"), "iterations": 1, "check_every": 4}),
        "wilor": (
            "hands",
            {
                "weights": str(folder / "wilor.ckpt"),
                "detector": str(folder / "detector.pt"),
                "mano": str(folder / "MANO_RIGHT.pkl"),
                "min_confidence": 0.001,
            },
        ),
        "sam2": ("masks", {"weights": str(folder / "sam2.pt"), "model": "tiny"}),
    }[model]
    shared = {"tracks": {"window_length": 10, "points": 40}}.get(stage, {})
    return stage, blocks_of(**{stage: {"backend": model, "segment_s": 0.5, **shared, model: own | changes}})[stage]


@pytest.fixture
def little(monkeypatch, upstream):
    """Small chunks, and upstream's other repositories."""
    monkeypatch.setattr(joining, "OVERLAP_FRAMES", 3)
    monkeypatch.setattr(wilor, "CALL_FRAMES", 5)
    monkeypatch.setattr(sam2, "CHUNK_FRAMES", 4)
    begin = ModelBackend._start

    def start(self, worker, device, meta, variables=None):
        return begin(self, worker, device, {**meta, "overrides": OVERRIDES} if worker == sam2.SAM2_WORKER else meta, variables)

    monkeypatch.setattr(ModelBackend, "_start", start)
    ask = ModelBackend._call
    # What a random network takes for its mask leaves no depth to join stretches by.
    monkeypatch.setattr(
        mapanything.MapAnythingDepth,
        "_call",
        lambda self, meta, arrays, progress=None: ask(self, {**meta, "mask": False}, arrays, progress),
    )
    find = type(sam2.Sam2Masks(blocks_of()["masks"], root=ROOT)._store).checkout
    others = {"UniCeption", "dinov2"}
    monkeypatch.setattr(
        "stages.models.weights.WeightStore.checkout",
        lambda store, model, name, override=None: upstream / name if name in others else find(store, model, name, override),
    )


def attempt(model, stage, block, given, folder, name, *, killed_at=1.1):
    """Bytes of the artifact and the shares of the work that were told; killed with SIGKILL once ``killed_at`` was."""
    module = {"moge": moge, "mapanything": mapanything, "tapip3d": tapip3d, "wilor": wilor, "sam2": sam2}[model]
    backend, told = module.BACKEND(block, root=ROOT), []
    out = backend.writer(folder / f"{name}.h5", segments=folder / f"{name}-segments")

    def progress(done, total):
        told.append(done / total)
        if told[-1] >= killed_at:
            os.kill(backend._process.pid, signal.SIGKILL)
            raise Killed

    backend.load(CPU)
    try:
        backend.process(given, out, shrink=1.0, progress=progress)
        return out.publish().path.read_bytes(), told
    finally:
        out.discard()
        backend.close()


@pytest.mark.parametrize("model", ["moge", "mapanything", "tapip3d", "wilor", "sam2"])
def test_a_killed_model_goes_on_in_another_process_and_ends_with_the_same_bytes(
    model, truth, little, small, upstream, python, tmp_path
):
    stage, block = settings_of(model, small, upstream, python)
    if model == "mapanything":
        block = block.model_copy(update={"mapanything": block.mapanything.model_copy(update={"stretch_frames": 9})})
    given = Inputs(Video("clip", "/nowhere/clip.mp4", objects="64 48"), clip=truth["clip"])
    if stage in ("tracks", "hands"):
        given = Inputs(given.video, clip=truth["clip"], depth=truth["depth"])
    whole, told = attempt(model, stage, block, given, tmp_path, "whole")
    with pytest.raises(Killed):
        attempt(model, stage, block, given, tmp_path, "killed", killed_at=0.6)
    kept = list((tmp_path / "killed-segments").iterdir())
    assert kept, "nothing was saved before the kill"
    again, told_again = attempt(model, stage, block, given, tmp_path, "killed")
    print(f"{model}: {len(whole)} bytes, went on at {told_again[0]:.0%} of the work")
    assert again == whole
    assert told_again[0] > told[0], "it began anew"
