"""TAPIP3D inside its own interpreter: frames in once, windows of 3D tracks out. Imports nothing of ours.

Upstream computes image features anew for every window; here each frame is encoded once and its features are handed to upstream's
own ``streaming_forward``. Everything else is upstream's code, called as its ``inference.py`` calls it. Upstream's conventions are
ours: RGB 0 to 1, z-depth with 0 invalid, integer pixel = pixel centre, extrinsics world to camera, OpenCV axes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import sys
import types
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray
from videolift_checkpoints import read_checkpoint
from videolift_child import require_arguments

EDGE_RTOL, EDGE_NORMAL_DEG = 0.08, 15
"""Of upstream's depth edge filter, as its inference.py sets them."""
FAR = 1e5
"""The distance that pointops2 gives a neighbour that there is not."""
KNN_DISTANCES = 1 << 26
"""Distances held at a time by the kNN in torch, 256 MB."""
POINTS_PER_PASS = 1536
"""On a card, points whose neighbourhoods are compared at a time; upstream's 384, kept on a CPU, leaves a large card idle."""
CONFIG_CLASSES = {
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.base": ("ContainerMetadata", "Metadata"),
    "omegaconf.nodes": ("AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "BytesNode", "PathNode", "EnumNode"),
    "pathlib": ("Path", "PosixPath", "PurePosixPath"),
    "typing": ("Any", "Dict", "List", "Union", "Optional"),
}
"""What upstream's checkpoint holds besides tensors: its configuration, an OmegaConf tree."""

if TYPE_CHECKING:
    from models import PointTracker3D
    from torch import Tensor

TrackerArrays = dict[str, NDArray[np.generic]]
TrackerReply = tuple[dict[str, str], TrackerArrays]
Prepared = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""A frame as the model is fed: RGB and depth of its size."""


class TrackerFiles(TypedDict):
    """What `load` is given: folders for sys.path, the checkpoint, torch's device, auto | fp32 | bf16."""

    paths: list[str]
    weights: str
    device: str
    precision: str


class VideoTask(TypedDict):
    """A new video: size [H, W] that frames are brought to, K (3, 3) at that size."""

    do: str
    size: list[int]
    K: list[list[float]]


class FramesTask(TypedDict):
    """Frames from ``first`` on; those before ``keep_from`` are forgotten. The encoder always sees ``batch`` of them, the last
    repeated: its rounding depends on their number."""

    do: str
    first: int
    keep_from: int
    batch: int


class TrackTask(TypedDict):
    """A window: indices of its frames, the last repeated as often as the model needs."""

    do: str
    indices: list[int]
    iterations: int
    support_grid: int


model: PointTracker3D
device = "cpu"
autocast: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
threads: ThreadPoolExecutor
K_model = np.eye(3)
frames: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
waiting: list[tuple[int, int, list[Future[Prepared]]]] = []


def load(meta: TrackerFiles) -> dict[str, int | str | list[int]]:
    """Reads the model onto its device. Returns what was chosen, and what the model looks at."""
    global model, device, autocast, threads
    sys.path[:0] = meta["paths"]
    import torch

    device = meta["device"]
    # Before upstream is imported: it imports its CUDA extension at the top.
    knn = _provide_knn()
    # Its file with the edge filter imports sophuspy, which only its training needs.
    if importlib.util.find_spec("sophuspy") is None:
        sys.modules["sophuspy"] = types.ModuleType("sophuspy")
    import models
    from datasets.data_ops import _filter_one_depth
    from utils.inference_utils import get_grid_queries

    require_arguments(models.PointTracker3D.streaming_forward, "image_feats", "depth_roi", "query_point", "mode")
    require_arguments(models.PointTracker3D.encode_rgbs, "chunk_size")
    require_arguments(_filter_one_depth, "depth_rtol", "normal_tol", "intrinsics")
    require_arguments(get_grid_queries, "grid_size", "depths", "intrinsics", "extrinsics")
    # TF32 has 10 bits of mantissa: 3D points would move by millimetres with the card's generation.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    model = _read_model(meta["weights"]).to(device).eval()
    if device != "cpu":
        model.corr_processor.forward = functools.partial(model.corr_processor.forward, max_points_per_chunk=POINTS_PER_PASS)
    # Frames are prepared beside the card: OpenCV and numpy let go of the interpreter's lock.
    threads = ThreadPoolExecutor(torch.get_num_threads())
    # Cards from sm_80 on; torch.cuda.is_bf16_supported() also says yes where it is emulated.
    bf16 = meta["precision"] == "bf16" or (
        meta["precision"] == "auto" and device != "cpu" and torch.cuda.get_device_capability()[0] >= 8
    )
    if bf16:
        autocast = lambda: torch.autocast(device.split(":")[0], dtype=torch.bfloat16)  # noqa: E731
    return {
        "seq_len": int(model.seq_len),
        "image_size": list(model.image_size),
        "stride": int(getattr(model.encoder, "stride", 4)),
        "knn": knn,
        "precision": "bf16" if bf16 else "fp32",
        "torch": torch.__version__,
    }


def _read_model(path: str) -> PointTracker3D:
    """Of its own, so that a test can hand it hostile files without a checkout."""
    checkpoint = read_checkpoint(path, CONFIG_CLASSES)
    import models

    read = models.from_config(checkpoint["cfg"]["model"], image_size=tuple(checkpoint["cfg"]["train_dataset"]["resolution"]))
    # Strict: weights of another architecture must not load in part.
    read.load_state_dict(checkpoint["weight"], strict=True)
    read.set_eval_mode("raw")
    return read


def call(meta: VideoTask | FramesTask | TrackTask, arrays: TrackerArrays, progress: Callable[[int, int], None]) -> TrackerReply:
    """``do``: begin | frames | track; see the functions of that name."""
    functions: dict[str, Callable[..., TrackerReply]] = {"begin": begin, "frames": add_frames, "track": track}
    return functions[meta["do"]](meta, arrays)


def begin(meta: VideoTask, arrays: TrackerArrays) -> TrackerReply:
    """Forgets the last video's frames."""
    global K_model
    frames.clear()
    waiting.clear()
    model.set_image_size(tuple(meta["size"]))
    K_model = np.array(meta["K"], np.float64)
    return {}, {}


def add_frames(meta: FramesTask, arrays: TrackerArrays) -> TrackerReply:
    """Takes frames and prepares them beside what the card does: rgb u8 (n, H, W, 3), depth f32 (n, H, W)."""
    size = tuple(reversed(model.image_size))
    # A card holds the features of one window and what is ahead, whatever the video's length.
    for index in [k for k in frames if k < meta["keep_from"]]:
        del frames[index]
    prepared = [threads.submit(prepare, rgb, depth, size) for rgb, depth in zip(arrays["rgb"], arrays["depth"])]
    waiting.append((meta["first"], meta["batch"], prepared))
    return {}, {}


def encode_up_to(last: int) -> None:
    """Encodes what waits, batch by batch, up to frame ``last``."""
    import torch

    while waiting and waiting[0][0] <= last:
        first, batch, prepared = waiting.pop(0)
        images, depths = zip(*(future.result() for future in prepared))
        # Always the same number: the encoder's rounding depends on it.
        images += images[-1:] * (batch - len(images))
        video = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float()[None] / 255.0
        with torch.inference_mode(), autocast():
            features = model.encode_rgbs(video, chunk_size=batch).float()[0]
        for i, depth in enumerate(depths):
            frames[first + i] = (video[0, i], torch.from_numpy(depth).to(device), features[i])


def track(meta: TrackTask, arrays: TrackerArrays) -> TrackerReply:
    """Tracks one window: uv_px f64 (N, 2) in its first frame at the model's size, T_camk_cam0 f64 (F, 4, 4).

    Returns kept bool (N): the query point has depth; for those xyz_cam0 f32 (F, n, 3), logit f32 (F, n).
    """
    import torch
    from utils.inference_utils import get_grid_queries

    encode_up_to(max(meta["indices"]))
    rgb, depth, features = (torch.stack(part) for part in zip(*(frames[i] for i in meta["indices"])))
    length = len(meta["indices"])
    K = torch.tensor(K_model, dtype=torch.float32, device=device).repeat(length, 1, 1)
    extrinsics = torch.from_numpy(arrays["T_camk_cam0"]).float().to(device)
    query, kept = query_points(arrays["uv_px"].astype(np.float64), depth[0].cpu().numpy(), K_model)
    if not kept.any():
        empty = np.zeros((length, 0, 3), np.float32)
        return {}, {"kept": kept, "xyz_cam0": empty, "logit": empty[..., 0]}
    query = torch.from_numpy(query).to(device)[None]
    if meta["support_grid"]:
        support = get_grid_queries(meta["support_grid"], depth[None], K[None], extrinsics[None])
        query = torch.cat([query, support], dim=1)
    with torch.inference_mode(), autocast():
        outputs = model.streaming_forward(
            rgb_obs=rgb[None],
            depth_obs=depth[None],
            num_iters=meta["iterations"],
            query_point=query,
            intrinsics=K[None],
            extrinsics=extrinsics[None],
            mode="inference",
            image_feats=features[None],
            depth_roi=depth_roi(depth),
        )
        # Upstream yields losses and states on the way; its prediction comes last.
        result = [output for output in outputs if type(output).__name__ == "Prediction"][-1]
    count = int(kept.sum())
    xyz, logit = result.coords[0, :, :count].float(), result.visibs[0, :, :count].float()
    return {}, {"kept": kept, "xyz_cam0": xyz.cpu().numpy(), "logit": logit.cpu().numpy()}


def prepare(rgb: NDArray[np.uint8], depth: NDArray[np.float32], size: tuple[int, int]) -> Prepared:
    """One frame as the model is fed: of its size, silhouettes filled."""
    rgb, depth = resized(rgb, np.asarray(depth, np.float32), size)
    return rgb, without_edges(depth, K_model)


def resized(rgb: NDArray[np.uint8], depth: NDArray[np.float32], size: tuple[int, int]) -> Prepared:
    """One frame at (W, H) = ``size``, as upstream resizes; untouched where it has that size."""
    if (rgb.shape[1], rgb.shape[0]) == tuple(size):
        return rgb, depth
    import cv2
    from utils.inference_utils import resize_depth_bilinear

    image = np.asarray(cv2.resize(rgb, tuple(size), interpolation=cv2.INTER_LINEAR), np.uint8)
    return image, resize_depth_bilinear(depth, tuple(size))


def without_edges(depth: NDArray[np.float32], K: NDArray[np.float64]) -> NDArray[np.float32]:
    """Depth (H, W) whose silhouettes take the nearest value beside them, by upstream's filter."""
    from datasets.data_ops import _filter_one_depth

    return _filter_one_depth(depth, EDGE_RTOL, EDGE_NORMAL_DEG, K).astype(np.float32) if (depth > 0).any() else depth


def query_points(
    uv_px: NDArray[np.float64], depth: NDArray[np.float32], K: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Query points f32 (n, 4) as (t, x, y, z) in the first camera, and which of ``uv_px`` (N, 2) have depth there."""
    rows, columns = np.rint(uv_px[:, 1]).astype(int), np.rint(uv_px[:, 0]).astype(int)
    z = depth[rows, columns].astype(np.float64)
    kept = z > 0
    rays = (uv_px - K[:2, 2]) / [K[0, 0], K[1, 1]]
    points = np.concatenate([np.zeros((len(z), 1)), rays * z[:, None], z[:, None]], axis=1)
    return points[kept].astype(np.float32), kept


def depth_roi(depth: Tensor) -> Tensor:
    """The depth range that normalises a window, [1e-7, q75 + 1.5 IQR] of its valid depth, as upstream's ``inference``."""
    import torch

    valid = depth[depth > 0].reshape(-1)
    q25, q75 = (torch.kthvalue(valid, max(1, int(share * len(valid)))).values for share in (0.25, 0.75))
    return torch.tensor([1e-7, (q75 + 1.5 * (q75 - q25)).item()], dtype=torch.float32, device=depth.device)


def knnquery(nsample: int, xyz: Tensor, new_xyz: Tensor, offset: Tensor, new_offset: Tensor) -> tuple[Tensor, Tensor]:
    """The one CUDA function upstream needs of pointops2, in torch: nearest ``nsample`` of each batch of packed points.

    Args: xyz (n, 3), new_xyz (m, 3), offsets int32 (b), the cumulative ends of batches.
    Returns: indices into xyz and distances, both (m, nsample).
    """
    import torch

    sizes = zip(np.diff([0, *offset.tolist()]).tolist(), np.diff([0, *new_offset.tolist()]).tolist())
    index = torch.empty(len(new_xyz), nsample, dtype=torch.int32, device=xyz.device)
    distance = torch.empty(len(new_xyz), nsample, device=xyz.device)
    first = query = 0
    # One torch call for neighbouring batches of equal sizes.
    for (points, queries), equal in itertools.groupby(sizes):
        batches = len(list(equal))
        there = xyz[first : first + batches * points].view(batches, points, 3)
        here = new_xyz[query : query + batches * queries].view(batches, queries, 3)
        start = first + points * torch.arange(batches, device=xyz.device)[:, None, None]
        step = max(1, KNN_DISTANCES // max(1, batches * points))
        for a in range(0, queries, step):
            # The faster form loses half its digits where points lie close together.
            apart = torch.cdist(here[:, a : a + step], there, compute_mode="donot_use_mm_for_euclid_dist")
            near, nearest = apart.topk(min(nsample, points), dim=2, largest=False)
            if points < nsample:  # little depth in a frame: pointops2 fills up with the batch's first point, far away
                short = (0, nsample - points)
                near = torch.nn.functional.pad(near, short, value=FAR)
                nearest = torch.nn.functional.pad(nearest, short)
            row = query + torch.arange(a, a + near.shape[1], device=xyz.device)
            rows = (row + queries * torch.arange(batches, device=xyz.device)[:, None]).reshape(-1)
            index[rows] = (nearest + start).int().reshape(-1, nsample)
            distance[rows] = near.reshape(-1, nsample)
        first, query = first + batches * points, query + batches * queries
    return index, distance


def _provide_knn() -> str:
    """pointops2 where it is built, else `knnquery` under its name; which one."""
    if importlib.util.find_spec("pointops2_cuda") is not None and device != "cpu":
        return "pointops2"
    pointops = types.ModuleType("third_party.pointops2.functions.pointops")
    vars(pointops)["knnquery"] = knnquery
    functions = types.ModuleType("third_party.pointops2.functions")
    vars(functions).update(__path__=[], pointops=pointops)
    sys.modules[functions.__name__], sys.modules[pointops.__name__] = functions, pointops
    import third_party.pointops2

    third_party.pointops2.functions = functions
    return "torch"
