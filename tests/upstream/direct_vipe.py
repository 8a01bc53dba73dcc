"""Loads our ViPE worker on upstream's true modules, with its CUDA extension left out, and checks every name it relies on."""

import importlib.util
import inspect
import os
import pickle
import pkgutil
import sys
import tempfile
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

upstream, worker_file, child = map(Path, sys.argv[1:4])
checkout = next(path for path in (upstream / "nvidia_vipe-1.2.0", upstream / "vipe") if path.exists())
sys.path.insert(0, str(checkout))
sys.modules["vipe_ext"] = MagicMock()

from vipe.config import parse_typed_config  # noqa: E402


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


load("videolift_child", child)
load("videolift_checkpoints", child.with_name("checkpoints.py"))
worker = load("worker", worker_file)

PIPELINES = sys.argv[4].split(",")
for preset in PIPELINES:
    for phrases in ("hand,arm,person", ""):
        config = parse_typed_config("default", hydra_args=worker.arguments(preset, phrases, "none")).pipeline
        assert (config.init.instance is None) == (phrases == "" or preset == "static_vda"), preset
        if config.init.instance is not None:
            assert list(config.init.instance.phrases) == ["hand", "arm", "person"]
        assert not config.output.save_viz
        assert not config.output.save_artifacts

import torch  # noqa: E402
import vipe  # noqa: E402
import vipe.pipeline.processors as processors  # noqa: E402
from vipe.streams.base import VideoFrame, VideoStream  # noqa: E402

built = []
for file in ("depth/videodepthanything/__init__.py", "geocalib/extractor.py", "track_anything/detector.py"):
    source = (checkout / "vipe" / "priors" / file).read_text()
    assert "torch.hub.load_state_dict_from_url(" in source, f"{file} reads its weights in another way"

for name in ("make_depth_model", "PriorDAModel", "VideoDepthAnythingDepthModel"):
    setattr(processors, name, lambda *a, _name=name, **o: built.append(_name) or MagicMock())
estimated = []
import vipe.pipeline.default as default  # noqa: E402

original = inspect.signature(default.GeoCalibIntrinsicsProcessor.__init__).parameters
assert {"video_stream", "camera_type"} <= set(original)
default.GeoCalibIntrinsicsProcessor = lambda stream, *a, **o: estimated.append(o) or MagicMock()

info = worker.load({"pipeline": "no_vda", "mask_phrases": [], "weights": []})
pipeline = worker.pipeline
assert isinstance(pipeline, default.DefaultAnnotationPipeline)
assert pipeline.return_output_streams
pipeline.slam_cfg.optimize_intrinsics = False  # settable per video

broken = []
for module in pkgutil.walk_packages(vipe.__path__, "vipe."):  # upstream imports many of them while it runs
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        broken.append(f"{module.name}: {error}")
assert all("sparse_tracks.cuvslam" in line for line in broken), broken  # a tracker that none of the pipelines names
print("not importable:", broken)
for preset in PIPELINES:
    assert worker.load({"pipeline": preset, "mask_phrases": ["hand"], "weights": []})["vipe"], preset
    post = worker.pipeline.post_cfg.depth_align_model
    assert post.startswith("adaptive_"), f"{preset}: {post} is computed by another processor than the one that is known"

    assert worker.pipeline.slam_cfg.infill_chunk_size == 16
built.clear()
worker.load({"pipeline": "no_vda", "mask_phrases": [], "weights": []})
pipeline = worker.pipeline
for _ in range(2):
    processors.AdaptiveDepthProcessor(MagicMock(), 0, "adaptive_unidepth-l_svda")
assert sorted(built) == ["PriorDAModel", "VideoDepthAnythingDepthModel", "make_depth_model"], "networks are built once"

rgb = np.zeros((5, 48, 64, 3), np.uint8)
stream = worker.make_stream(rgb, 10.0)
for name in ("frame_size", "name", "fps", "__len__"):
    assert name in vars(VideoStream), f"upstream's VideoStream asks for {name}"
    assert name in vars(type(stream))
assert (stream.frame_size(), stream.fps(), len(stream), stream.attributes()) == ((48, 64), 10.0, 5, set())
fields = inspect.signature(VideoFrame).parameters
assert {"raw_frame_idx", "rgb", "pose", "intrinsics", "camera_type", "metric_depth"} <= set(fields)

worker.known_camera = None
pipeline._add_init_processors(stream)
assert len(estimated) == 1
worker.known_camera = worker.camera_vector(None, 60.0, 64, 48)
processed = pipeline._add_init_processors(stream)
assert len(estimated) == 1, "a known camera is not estimated"
frame = processed.processors[0](0, VideoFrame(raw_frame_idx=0, rgb=torch.zeros(48, 64, 3)))
assert frame.intrinsics.tolist() == [np.float32(32 / np.tan(np.radians(30))), np.float32(32 / np.tan(np.radians(30))), 32, 24]
given = worker.camera_vector([[50, 0, 31.5], [0, 51, 23.5], [0, 0, 1]], None, 64, 48)
assert given == [50, 51, 31.5, 23.5]


# progress: upstream's loops, and every layer that any thread runs
import threading  # noqa: E402

import vipe.slam.system as system  # noqa: E402

assert inspect.getsource(system.SLAMSystem.run).count("pbar(") == 2, "upstream's loops over the frames report in another way"
told, bar, layer = [], system.pbar, torch.nn.Linear(2, 2)
worker.SignsOfLife.every_s = 0.0
with worker.Progressing(lambda done, total: told.append((threading.get_ident(), done, total)), 6) as progressing:
    assert list(system.pbar(range(4), desc="SLAM", total=4)) == [0, 1, 2, 3]
    assert told[-1][1:] == (4, 6)
    reader = threading.Thread(target=layer, args=(torch.zeros(2),))
    reader.start()
    reader.join()
    layer(torch.zeros(2))
assert len({thread for thread, _, _ in told}) == 2
assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
count = len(told)
layer(torch.zeros(2))
progressing.signs()
assert len(told) == count
assert system.pbar is bar, "nothing is told after the end"

# memory: what upstream allocates for a stretch, without allocating it
from vipe.slam.components.buffer import GraphBuffer  # noqa: E402

for frames in (600, 150):
    slots = worker.keyframe_slots(frames, 16)
    buffer = GraphBuffer(
        height=384,
        width=512,
        n_views=1,
        buffer_size=slots,
        init_disp=1.0,
        cross_view_idx=None,
        ba_config=None,
        sparse_tracks=None,
        camera_type=processors.CameraType.PINHOLE,
        device=torch.device("meta"),
    )
    sizes = {name: value.nbytes for name, value in vars(buffer).items() if isinstance(value, torch.Tensor)}
    assert all(getattr(buffer, name).device.type == "meta" for name in sizes)
    print(f"buffer of {frames} frames: {sum(sizes.values())} bytes")


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


class Training(dict):
    """Stands for a configuration in a checkpoint."""

    __module__ = "omegaconf.dictconfig"


def from_hub(content):
    os.makedirs("checkpoints", exist_ok=True)
    torch.save(content, "checkpoints/x.pth")
    return torch.hub.load_state_dict_from_url("https://example.invalid/x.pth", map_location="cpu")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    torch.hub.set_dir(folder)
    sys.modules["omegaconf.dictconfig"].Training = Training
    read = from_hub({"model": {"w": torch.ones(2)}, "conf": Training(a=1), "eval": np.float64(0.5)})
    assert read["model"]["w"].tolist() == [1, 1]
    assert read["eval"] == 0.5
    try:
        from_hub({"model": Evil()})
    except pickle.UnpicklingError as error:
        print("refused:", error)
    else:
        raise AssertionError("a checkpoint that runs something was read")
    assert not os.path.exists("evil"), "what a checkpoint says was run"
    os.chdir("/")
print("ok", info)
