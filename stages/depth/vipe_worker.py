"""ViPE inside its own interpreter: frames of one stretch of video in, depth and camera poses out. Imports nothing of ours.

One pipeline is built and kept; upstream keeps its networks in it, except those after SLAM, which `load` makes it keep. Frames come
from memory with their true rate. Upstream goes over them twice and computes long after the last one was read, so progress is told
by its own loops and by every layer that it runs (`Progressing`). Upstream's poses are camera to world, OpenCV; its intrinsics
[fx, fy, cx, cy] are pixels of the input with cx = W / 2 on an integer grid; depth belongs to the input's pixels.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from videolift_checkpoints import NUMPY_VALUES, check_weights, read_checkpoint
from videolift_child import SignsOfLife, require_arguments

INERT_PACKAGES = ("omegaconf", "yacs", "pytorch_lightning")
"""What training leaves in a checkpoint besides tensors: scores and its configuration, which nobody reads here."""

pipeline: Any = None
known_camera: list[float] | None = None
make_stream: Callable[[np.ndarray, float], Any]


def load(meta: dict[str, Any]) -> dict[str, Any]:
    """Meta: pipeline (upstream's preset), mask_phrases, weights (all that it will read; TORCH_HOME and HF_HOME hold them)."""
    global pipeline, make_stream
    for path in meta["weights"]:
        check_weights(path)
    _restrict_hub()
    import vipe.pipeline.processors as processors
    from vipe.config import parse_typed_config
    from vipe.pipeline import make_pipeline
    from vipe.streams.base import VideoFrame

    require_arguments(VideoFrame, "raw_frame_idx", "rgb", "pose", "intrinsics", "metric_depth")
    folder = tempfile.mkdtemp(prefix="vipe-")  # upstream makes its output folder even if nothing is written to it
    phrases = ",".join(meta["mask_phrases"])
    # Hydra's own configuration, so that a preset of upstream's is used as it stands.
    config = parse_typed_config("default", hydra_args=arguments(meta["pipeline"], phrases, folder))
    # upstream builds the networks after SLAM anew for every video; here the second video gets the first one's
    for name in ("make_depth_model", "PriorDAModel", "VideoDepthAnythingDepthModel"):
        setattr(processors, name, cache(getattr(processors, name)))
    _use_known_cameras()
    make_stream = _stream_class()
    pipeline = make_pipeline(config.pipeline)
    pipeline.return_output_streams = True
    try:
        release = version("nvidia-vipe")
    except PackageNotFoundError:  # a checkout that was not installed
        release = os.path.dirname(str(sys.modules["vipe"].__file__))
    return {"vipe": release, "adds_sky": bool(pipeline.init_cfg.instance and pipeline.init_cfg.instance.add_sky)}


def arguments(preset: str, phrases: str, folder: str) -> list[str]:
    """Hydra overrides: upstream's preset, nothing written, our phrases masked out of SLAM."""
    masks = f"pipeline.init.instance.phrases=[{phrases}]" if phrases else "pipeline.init.instance=null"
    overrides = [] if preset == "static_vda" else [masks]  # that preset has no masks to override
    off = [f"pipeline.output.{name}=false" for name in ("save_artifacts", "save_viz")]
    return [f"pipeline={preset}", f"pipeline.output.path={folder}", *off, *overrides]


def call(
    meta: dict[str, Any], arrays: dict[str, np.ndarray], progress: Callable[[int, int], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One stretch. Meta: fps, K (3, 3) or None, hfov_deg or None. Array: rgb u8 (n, H, W, 3).

    Returns depth f32 (n, H, W), 0 invalid; T_world_camera f32 (n, 4, 4); intrinsics f64 (4).
    """
    global known_camera
    rgb = arrays["rgb"]
    height, width = rgb.shape[1:3]
    known_camera = camera_vector(meta["K"], meta["hfov_deg"], width, height)
    # A focal length that is known must not drift while poses are optimized.
    pipeline.slam_cfg.optimize_intrinsics = known_camera is None
    pipeline.slam_cfg.buffer = keyframe_slots(len(rgb), pipeline.slam_cfg.infill_chunk_size)
    phrases = None if pipeline.init_cfg.instance is None else list(pipeline.init_cfg.instance.phrases)
    with Progressing(progress, 3 * len(rgb)) as progressing:
        output = pipeline.run(make_stream(rgb, meta["fps"]))
        if phrases is not None:
            pipeline.init_cfg.instance.phrases = phrases  # 1.1 appends "sky" to it on every run
        depth, poses, intrinsics = [], [], np.zeros(0)
        for frame in progressing.through(output.output_streams[0]):  # one pass: every frame is moved to the card when it is read
            z = frame.metric_depth.float().cpu().numpy()
            depth.append(np.where(np.isfinite(z) & (z > 0), z, 0).astype(np.float32))
            poses.append(frame.pose.matrix().float().cpu().numpy().reshape(4, 4))
            intrinsics = frame.intrinsics.double().cpu().numpy().reshape(-1)[:4]
    return {}, {"depth": np.stack(depth), "T_world_camera": np.stack(poses), "intrinsics": intrinsics}


def keyframe_slots(frames: int, infill_chunk: int) -> int:
    """Length of upstream's buffer, which it allocates whole: every frame may become a keyframe, then come a chunk to fill in and
    the pose that is predicted for the next."""
    return frames + infill_chunk + 1


class Progressing:
    """Tells the parent that work goes on: in frames of upstream's two passes and of ours over the result, and in between whenever
    any layer of any network has run. A stretch may compute for longer than a pool waits for a sign of life without reading a frame.
    """

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self.signs = SignsOfLife(progress, total)
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Progressing:
        import vipe.slam.system as system
        from torch.nn.modules.module import register_module_forward_hook

        bar = system.pbar
        system.pbar = lambda iterable, **_: self.through(iterable)
        self._undo = [register_module_forward_hook(self.signs).remove, lambda: setattr(system, "pbar", bar)]
        return self

    def __exit__(self, *_: object) -> None:
        for undo in self._undo:
            undo()
        self.signs.end()

    def through(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, each of which counts as a frame done."""
        for item in items:
            yield item
            self.signs.step()


def camera_vector(K: list[list[float]] | None, hfov_deg: float | None, width: int, height: int) -> list[float] | None:
    """[fx, fy, cx, cy] from a given K or a fixed horizontal field of view; None where it is to be estimated."""
    if K is not None:
        return [K[0][0], K[1][1], K[0][2], K[1][2]]
    if hfov_deg is not None:
        focal = width / 2 / float(np.tan(np.radians(hfov_deg) / 2))
        return [focal, focal, width / 2, height / 2]
    return None


def _stream_class() -> Any:
    import torch
    from vipe.streams.base import VideoFrame, VideoStream

    class Frames(VideoStream):
        """Frames in memory. Upstream goes over them more than once, so `__iter__` starts anew."""

        def __init__(self, rgb: np.ndarray, fps: float) -> None:
            super().__init__()
            self._rgb, self._fps = rgb, fps

        def frame_size(self) -> tuple[int, int]:
            return self._rgb.shape[1], self._rgb.shape[2]

        def name(self) -> str:
            return "clip"

        def fps(self) -> float:
            return self._fps

        def __len__(self) -> int:
            return len(self._rgb)

        def __iter__(self) -> Iterator[Any]:
            for index, image in enumerate(self._rgb):
                yield VideoFrame(raw_frame_idx=index, rgb=torch.from_numpy(image).cuda().float() / 255.0)

    return Frames


def _use_known_cameras() -> None:
    """Upstream always estimates intrinsics; where ours are known, its estimator gives way to them."""
    import torch
    import vipe.pipeline.default as default
    from vipe.pipeline.processors import IntrinsicEstimationProcessor
    from vipe.utils.cameras import CameraType

    class KnownCamera(IntrinsicEstimationProcessor):
        def __call__(self, frame_idx: int, frame: Any) -> Any:
            frame.intrinsics = torch.tensor(known_camera, dtype=torch.float32)
            frame.camera_type = CameraType.PINHOLE
            return frame

    estimate = default.GeoCalibIntrinsicsProcessor

    def choose(stream: Any, *rest: Any, **options: Any) -> Any:
        return estimate(stream, *rest, **options) if known_camera is None else KnownCamera(stream)

    default.GeoCalibIntrinsicsProcessor = choose


def _restrict_hub() -> None:
    """What upstream reads by way of torch.hub would be unpickled freely; and it lies there already, a job downloads nothing."""
    import torch

    def read(
        url: str,
        model_dir: str | None = None,
        map_location: Any = None,
        progress: bool = True,
        check_hash: bool = False,
        file_name: str | None = None,
    ) -> Any:
        folder = model_dir or os.path.join(torch.hub.get_dir(), "checkpoints")
        return read_checkpoint(os.path.join(folder, file_name or os.path.basename(url)), NUMPY_VALUES, INERT_PACKAGES)

    torch.hub.load_state_dict_from_url = read
