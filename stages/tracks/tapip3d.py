"""3D tracks by TAPIP3D: windows of a clip with depth and camera in, tracks in each window's first camera out.

A window is fed as many real frames as the model looks at (16), and everything tracked is kept, so a smaller window or a coarser
stride later costs packaging alone. Every frame is encoded once, not once per window. The model itself runs in its own interpreter
(`tapip3d_worker`); what is converted here: extrinsics of a window whose world is its first camera, pixels, visibility.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.backend import Inputs, Progress, Quality
from stages.models.model_process import ModelBackend, ModelSettings, require_weights, torch_device, weights_identity
from stages.tracks import TracksSettings
from stages.tracks.queries import WINDOW_SETTINGS, Queries, window_queries
from stages.tracks.windowed import LiftingScene, tracked_starts, write_windows
from videolift.artifacts import ArtifactWriter, Clip, TracksWriter
from videolift.artifacts.tracks import Window
from videolift.config import Count, Positive, Share
from videolift.errors import BackendUnavailable, BadInput
from videolift.geometry import T_camk_cam0, project, resize_intrinsics, resize_pixels, transform
from videolift.pool import Device

TAPIP3D_WORKER = Path(__file__).with_name("tapip3d_worker.py")
BATCH_FRAMES = 16
"""Frames sent and encoded together, aligned to multiples: what is computed then does not depend on where windows start, or where
a killed run goes on. 16 of 512x384 are 22 MB."""


@dataclass(frozen=True)
class FeedingPlan:
    """How windows meet the model.

    Attributes:
        seq_len: frames that the model looks at together, from its checkpoint.
        fed: frames fed per window, at least ``seq_len`` and a multiple of its half; the arrays' F.
        size: (H, W) at which frames are fed.
    """

    seq_len: int
    fed: int
    size: tuple[int, int]

    @classmethod
    def of(cls, window_length: int, clip_px: tuple[int, int], model: dict[str, Any], resolution_factor: float) -> FeedingPlan:
        """For clips of (H, W) = ``clip_px``; ``model`` is what the worker said when it loaded."""
        seq_len, step = int(model["seq_len"]), int(model["stride"])
        half = seq_len // 2
        # The area that the model was trained at, in the clip's own shape.
        area = model["image_size"][0] * model["image_size"][1] * resolution_factor
        ratio = float(np.sqrt(area / (clip_px[0] * clip_px[1])))
        height, width = (max(step, round(length * ratio / step) * step) for length in clip_px)
        return cls(seq_len, max(seq_len, -(-window_length // half) * half), (height, width))

    def indices(self, start: int, known: NDArray[np.bool_]) -> tuple[list[int], int]:
        """Frames fed for the window at ``start``, and how many of them are real: those up to the first without a camera pose.

        The rest repeats the last real one. ``known`` (T) says which frames have a pose.
        """
        ahead = known[start : start + self.fed]
        # argmin of booleans is the first False.
        real = len(ahead) if ahead.all() else int(ahead.argmin())
        # Upstream wants whole windows; repeating the last frame adds no motion, and what comes of it is cut off.
        return [start + min(i, max(real - 1, 0)) for i in range(self.fed)], real


def window_of(
    start: int, real: int, queries: Queries, reply: dict[str, NDArray[Any]], scene: LiftingScene, limit: VisibilityLimit
) -> Window:
    """The artifact's window from what the worker returned: ``kept`` (N), ``xyz_cam0`` (F, n, 3), ``logit`` (F, n).

    Everything beyond the ``real`` frames becomes NaN and False.
    """
    xyz, logit = reply["xyz_cam0"].astype(np.float64), reply["logit"].astype(np.float32)
    # What the repeated frames gave is the model's guess at a standstill.
    xyz[real:], logit[real:] = np.nan, np.nan
    E = T_camk_cam0(scene.T_camera_world[start : start + real])
    camera = transform(E, xyz[:real])
    uv = np.full((*xyz.shape[:2], 2), np.nan)
    uv[:real] = project(camera, scene.K)
    width, height = limit.size_px
    # exp of a very negative logit overflows to infinity, which gives the right share, 0.
    with np.errstate(invalid="ignore", over="ignore"):
        # The model follows points out of the picture too; there nothing is seen.
        inside = ((uv >= -0.5) & (uv < [width - 0.5, height - 0.5])).all(-1)
        seen = 1.0 / (1.0 + np.exp(-logit)) >= limit.visibility
    valid = np.asarray(np.isfinite(xyz).all(-1))
    valid[:real] &= camera[..., 2] > 0
    return Window(
        start=start,
        frames_tracked=real,
        xyz_cam0=xyz.astype(np.float32),
        uv_px=uv.astype(np.float32),
        visible=seen & inside & valid,
        valid3d=valid,
        label=queries.label[reply["kept"]],
        visibility_logit=logit,
    )


@dataclass(frozen=True)
class VisibilityLimit:
    """What makes a point visible: inside (W, H) = ``size_px``, and a sigmoid of its logit of at least ``visibility``."""

    size_px: tuple[int, int]
    visibility: float


class Tapip3dSettings(ModelSettings):
    """TAPIP3D: learned 3D point tracks."""

    weights: str = Field("tapip3d_final", description="a name in thirdparty/models.yaml, or a file of yours")
    iterations: Count = Field(6, description="refinement steps, upstream's num_iters")
    visibility: Share = Field(0.9, description="sigmoid of the visibility logit from which a point counts as visible")
    resolution_factor: Positive = Field(
        1.0, description="frame area fed, in the model's own; upstream's demo takes 2, twice the cost"
    )
    support_grid: int = Field(0, ge=0, description="upstream's grid_size: extra points that steady sparse queries")
    check_every: int = Field(
        30, ge=0, description="every N-th window is also tracked backward, to measure forward-backward error; 0: none"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the card truly has it")
    checkout: str | None = Field(None, description="a checkout of yours instead of the installed one")


class Tapip3dTracks(ModelBackend):
    """The ``tapip3d`` backend."""

    name: ClassVar[str] = "tapip3d"
    settings_model: ClassVar[type[Tapip3dSettings]] = Tapip3dSettings
    presets: ClassVar[tuple[str, ...]] = ("gpu",)
    version: ClassVar[int] = 1
    env: ClassVar[str | None] = "tapip3d"
    device: ClassVar[Literal["cpu", "cuda"]] = "cuda"
    deterministic: ClassVar[bool] = False
    shrinks: ClassVar[tuple[float, ...]] = (1.0,)
    """Points see each other inside the model, so fewer at a time would be another result."""
    writer: ClassVar[type[ArtifactWriter]] = TracksWriter
    _settings: TracksSettings

    def identity(self) -> dict[str, Any]:
        """The settings that change a result, and the weights' hash."""
        windows = self._settings.model_dump(mode="json", include={*WINDOW_SETTINGS})
        own = self._settings.of(Tapip3dSettings).model_dump(mode="json", exclude={"weights", "python", "checkout"})
        return {**windows, "tapip3d": own, "weights": weights_identity(self._store, self.weights)}

    @property
    def checkouts(self) -> dict[str, str | None]:
        """The repository it runs from, and the user's own folder for it."""
        return {"TAPIP3D": self._settings.of(Tapip3dSettings).checkout}

    @property
    def weights(self) -> list[str]:
        """Names or paths of what it reads."""
        return [self._settings.of(Tapip3dSettings).weights]

    def load(self, device: Device) -> None:
        """Starts the model; see `stages.backend.Backend.load`."""
        own = self._settings.of(Tapip3dSettings)
        # The user may name a path in place of a name; both are looked up the same way.
        (weights,) = require_weights(self._store, self.weights)
        checkout = self._store.checkout("tapip3d", "TAPIP3D", own.checkout)
        meta = {"paths": [str(checkout)], "weights": str(weights), "device": torch_device(device), "precision": own.precision}
        self._start(TAPIP3D_WORKER, device, meta)
        # Known once the checkpoint is read, since it says how long its own window is.
        least = self.about["seq_len"] // 2 + 1
        if self._settings.window_length < least:
            why = f"its own window is {self.about['seq_len']}, half of it comes back without motion"
            raise BackendUnavailable(
                f"window_length is {self._settings.window_length}, TAPIP3D needs at least {least} ({why}): set tracks.window_length"
                f" to {least} or more and create_h5.window_length to what you want, or use tracks.backend: flow"
            )

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Tracks every window of the clip; see `stages.backend.Backend.process`."""
        assert inputs.clip is not None
        assert isinstance(out, TracksWriter)
        clip, settings = inputs.clip, self._settings
        if inputs.depth is None:
            raise BadInput("no_depth", "TAPIP3D tracks in depth, and this video has none", "Use tracks.backend: flow for it.")
        starts = tracked_starts(len(clip), settings.window_length, settings.stride)
        named = {"window_length": settings.window_length, "stride": settings.stride, "query": settings.query}
        how = {"knn": self.about["knn"], "precision": self.about["precision"]}
        out.describe(backend=self.name, seed=settings.seed or 0, **named, **how)
        points = write_windows(
            out,
            starts,
            segment=settings.segment_s * clip.fps / settings.stride,
            track=lambda left: self._windows(inputs, left),
            count=lambda window: [window.xyz_cam0.shape[1]],
            progress=progress,
        )
        empty = int((points == 0).sum())
        checks = (f"{empty} windows have no point with depth and camera",) if empty else ()
        return Quality(len(clip), checks, {"windows": len(starts), "points": int(points.sum())})

    def _windows(self, inputs: Inputs, starts: range) -> Iterator[Window]:
        assert inputs.clip is not None
        clip, scene = inputs.clip, LiftingScene.of(inputs)
        known = np.asarray(np.isfinite(scene.T_camera_world).all((1, 2)))
        own, size_px = self._settings.of(Tapip3dSettings), (clip.width, clip.height)
        plan = FeedingPlan.of(self._settings.window_length, size_px[::-1], self.about, own.resolution_factor)
        feed, limit = _Feed(self._call, clip, scene, plan), VisibilityLimit(size_px, own.visibility)
        options = {"iterations": own.iterations, "support_grid": own.support_grid}
        with ExitStack() as stack:
            masks = stack.enter_context(inputs.open_masks())
            for start in starts:
                mask = None if masks is None else masks[start]
                queries = window_queries(self._settings, video=inputs.video.id, window_start=start, size_px=size_px, mask=mask)
                indices, real = plan.indices(start, known)
                # A window is whole or empty: part of one would be packaged as if its points had vanished.
                if real < self._settings.window_length:
                    off = np.zeros((plan.fed, 0), bool)
                    yield Window(
                        start,
                        real,
                        xyz_cam0=np.zeros((plan.fed, 0, 3), np.float32),
                        uv_px=np.zeros((plan.fed, 0, 2), np.float32),
                        visible=off,
                        valid3d=off,
                        label=np.zeros(0, np.uint8),
                        visibility_logit=np.zeros((plan.fed, 0), np.float32),
                        forward_backward_px=np.nan,
                    )
                    continue
                window = window_of(start, real, queries, feed.track(start, indices, queries, options), scene, limit)
                due = own.check_every and start // self._settings.stride % own.check_every == 0
                missed_px = feed.missed_px(window, self._settings.window_length, options) if due else np.nan
                yield replace(window, forward_backward_px=missed_px)


class _Feed:
    """Sends every frame of a clip once, in order, and asks for windows."""

    def __init__(self, call: Any, clip: Clip, scene: LiftingScene, plan: FeedingPlan) -> None:
        self._call, self._clip, self._scene, self._plan, self._sent = call, clip, scene, plan, 0
        height, width = plan.size
        self._K = resize_intrinsics(scene.K, (clip.width, clip.height), (width, height))
        call({"do": "begin", "size": [height, width], "K": self._K.tolist()}, {})

    def track(self, start: int, indices: list[int], queries: Queries, options: dict[str, Any]) -> dict[str, NDArray[Any]]:
        assert self._scene.depth is not None
        # A batch ahead, to be prepared while this window is tracked; from a batch's first frame, also after a resume: a batch of
        # other frames would round otherwise.
        first = max(self._sent, start // BATCH_FRAMES * BATCH_FRAMES)
        for a in range(first, min(max(indices) + 1 + BATCH_FRAMES, len(self._clip)), BATCH_FRAMES):
            frames = range(a, min(a + BATCH_FRAMES, len(self._clip)))
            depth = np.stack([np.asarray(self._scene.depth[k], np.float32) for k in frames])
            meta = {"do": "frames", "first": a, "keep_from": start, "batch": BATCH_FRAMES}
            self._call(meta, {"rgb": self._clip[a : frames.stop], "depth": depth})
            self._sent = a + BATCH_FRAMES
        height, width = self._plan.size
        uv = resize_pixels(queries.uv_px, (self._clip.width, self._clip.height), (width, height))
        E = T_camk_cam0(self._scene.T_camera_world[indices])
        reply: dict[str, NDArray[Any]] = self._call({"do": "track", "indices": indices, **options}, {"uv_px": uv, "T_camk_cam0": E})
        return reply

    def missed_px(self, window: Window, window_length: int, options: dict[str, Any]) -> float:
        """How far points end from their start, median in pixels, when those seen in the window's last frame are tracked back."""
        last = window_length - 1
        seen = np.flatnonzero(window.visible[last])
        if not len(seen):
            return np.nan
        # The same frames in reverse; what is beyond the first repeats it, as a window's end does.
        back = [window.start + max(last - i, 0) for i in range(len(window.uv_px))]
        reply = self.track(window.start, back, Queries(window.uv_px[last, seen], window.label[seen]), options)
        T = T_camk_cam0(self._scene.T_camera_world[back])[last]
        missed = project(transform(T, reply["xyz_cam0"][last]), self._scene.K) - window.uv_px[0, seen[reply["kept"]]]
        missed_px = np.linalg.norm(missed[np.isfinite(missed).all(-1)], axis=-1)
        return float(np.median(missed_px)) if len(missed_px) else np.nan


BACKEND = Tapip3dTracks
