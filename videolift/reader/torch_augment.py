"""Augmentations of whole batches, on whatever device they are: images, depth, tracks, hands and K change together.

Each works on a collated batch of `WindowDataset` samples (keys that are absent are left alone) and draws anew for every sample.
Image coordinates: pixel centres are integers; u = (x + 0.5) / S.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F

from videolift.errors import ConfigError
from videolift.reader.torch_dataset import Batch

# Nearest where the mean of two pixels would be a value that neither has.
_PLANES = {"rgb": "bilinear", "depth": "nearest", "depth_valid": "nearest", "instance": "nearest"}
_SIDES = {"keypoints_px": 2, "keypoints_px_valid": 2, "joints_camera": 2, "joints_camera_valid": 2, "T_camera_wrist": 2}
_SIDES |= {"T_camera_wrist_valid": 2, "hand_interpolated": 2, "hand_valid": 1, "hand_step_valid": 1, "hand_query_uvd": 1}
_SIDES |= {"hand_displacement_uvd": 1, "hand_query_rot6d": 1, "hand_displacement_rot6d": 1}
"""Keys with an axis (left, right) in a batch, and which it is."""
_MIRROR = (-1.0, 1.0, 1.0)


class Augmentation(Protocol):
    """Changes a batch; draws from ``generator``."""

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The changed batch; the given one stays as it is."""
        ...


@dataclass(frozen=True)
class Augment:
    """Several augmentations, one after the other.

    Raises:
        ConfigError: the batch is already normalized: augment first, then normalize.
    """

    steps: Sequence[Augmentation]

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """See the class."""
        if "rgb" in batch and batch["rgb"].dtype != torch.uint8:
            raise ConfigError(f"rgb is {batch['rgb'].dtype}: augment before normalizing, where images are u8 and lengths in metres")
        for step in self.steps:
            batch = step(batch, generator)
        return batch


@dataclass(frozen=True)
class ColourJitter:
    """Brightness and contrast, each changed by up to this share."""

    brightness: float = 0.2
    contrast: float = 0.2

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """See the class."""
        rgb = batch["rgb"]
        shape = (len(rgb),) + (1,) * (rgb.ndim - 1)
        gain = 1 + self.contrast * _uniform(len(rgb), generator, rgb.device).reshape(shape)
        shift = 255 * self.brightness * _uniform(len(rgb), generator, rgb.device).reshape(shape)
        # Rounded: a cast would cut off, and darken by half a value.
        changed = ((rgb.float() - 127.5) * gain + 127.5 + shift).round().clamp(0, 255)
        return {**batch, "rgb": changed.to(torch.uint8)}


@dataclass(frozen=True)
class Flip:
    """Left and right exchanged with this probability: what is seen is the mirror image, so a right hand becomes a left one.

    The world is mirrored with it: poses and rotations are M R M with M = diag(-1, 1, 1).
    """

    probability: float = 0.5

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """See the class."""
        size = _size(batch)
        # A generator draws on its own device only.
        chosen = torch.rand(len(batch["video"]), generator=generator, device=generator.device) < self.probability
        mirrored = {key: _flipped(key, value, size) for key, value in batch.items() if isinstance(value, torch.Tensor)}
        if "intrinsics" in batch:
            K = batch["intrinsics"].clone()
            K[:, 0, 2] = size - 1 - K[:, 0, 2]
            mirrored["intrinsics"] = K
        out = dict(batch)
        for key, value in mirrored.items():
            pick = chosen.to(value.device).reshape((-1,) + (1,) * (value.ndim - 1))
            out[key] = torch.where(pick, value, batch[key])
        return out


def _flipped(key: str, value: torch.Tensor, size: int) -> torch.Tensor:
    if key in _PLANES:
        return value.flip(-1)
    if key in _SIDES:
        # A mirrored right hand is a left one, and changes its place too.
        value = value.flip(_SIDES[key])
    mirror = torch.tensor(_MIRROR, dtype=torch.float32, device=value.device)
    if key in ("displacement", "hand_displacement_uvd", "joints_camera"):
        return value * mirror
    if key in ("query", "hand_query_uvd"):
        return torch.cat([1 - value[..., :1], value[..., 1:]], -1) * _known_rows(value)
    if key == "keypoints_px":
        return torch.cat([size - 1 - value[..., :1], value[..., 1:]], -1) * _known_rows(value)
    if key in ("T_camera_wrist", "T_camera_world"):
        M = torch.diag(torch.tensor((*_MIRROR, 1.0), dtype=value.dtype, device=value.device))
        return M @ value @ M
    if key in ("hand_query_rot6d", "hand_displacement_rot6d"):
        return value * _mirrored_columns(value)
    if key == "pose9d":
        return value * torch.cat([_mirrored_columns(value), mirror])
    return value


def _known_rows(value: torch.Tensor) -> torch.Tensor:
    """What is all 0 was not known, and stays 0."""
    return (value != 0).any(-1, keepdim=True)


def _mirrored_columns(value: torch.Tensor) -> torch.Tensor:
    """Signs of the first two columns of M R M."""
    return torch.tensor([1.0, -1.0, -1.0, -1.0, 1.0, 1.0], dtype=value.dtype, device=value.device)


@dataclass(frozen=True)
class CropRotate:
    """A square part of the image, turned about its centre and resized to the whole: a camera that is rolled and zoomed.

    Image coordinates of tracks, keypoints and hands move with the pixels and K says so: K' = A K for the affine map A of pixels.
    Lengths and 3D coordinates stay those of the camera as it was. Points that leave the image are no longer visible.

    Attributes:
        scale: least and greatest side of the part, as a share of the image's.
        degrees: greatest turn to either side.
        shift: greatest distance of the part's centre from the image's, as a share of what is cut away.
    """

    scale: tuple[float, float] = (0.7, 1.0)
    degrees: float = 10.0
    shift: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ConfigError(f"scale is {self.scale}: above 0, at most 1, and rising")

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """See the class."""
        size, count, device = _size(batch), len(batch["video"]), generator.device
        share = self.scale[0] + (self.scale[1] - self.scale[0]) * torch.rand(count, generator=generator, device=device)
        angle = torch.deg2rad(torch.tensor(self.degrees, device=device)) * _uniform(count, generator, device)
        centre = 0.5 + self.shift * (1 - share)[:, None] / 2 * _uniform((count, 2), generator, device)
        cos, sin = torch.cos(angle) / share, torch.sin(angle) / share
        linear = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
        uv_map = torch.cat([linear, (0.5 - linear @ centre[..., None])], -1)  # (B, 2, 3), takes old (u, v) to new
        out = dict(batch)
        for key, mode in _PLANES.items():
            if key in batch and batch[key].ndim > 2:
                out[key] = _resampled(batch[key], uv_map, mode)
        for key in ("query", "hand_query_uvd"):
            if key in batch:
                moved = _moved(batch[key][..., :2], uv_map)
                out[key] = torch.cat([moved, batch[key][..., 2:]], -1) * _known_rows(batch[key])
        for key in ("displacement", "hand_displacement_uvd"):
            if key in batch:
                # A difference of two points: it turns and shrinks with them, and does not move.
                out[key] = torch.cat([_turned(batch[key][..., :2], uv_map), batch[key][..., 2:]], -1)
        if "keypoints_px" in batch:
            uv = (batch["keypoints_px"] + 0.5) / size
            out["keypoints_px"] = (_moved(uv, uv_map) * size - 0.5) * _known_rows(batch["keypoints_px"])
        if "intrinsics" in batch:
            A = torch.eye(3, device=uv_map.device).repeat(len(uv_map), 1, 1)  # the same map, of homogeneous pixels
            A[:, :2, :2] = uv_map[:, :, :2]
            A[:, :2, 2] = size * (uv_map[:, :, 2] + 0.5 / size * uv_map[:, :, :2].sum(-1)) - 0.5
            out["intrinsics"] = A.to(batch["intrinsics"]) @ batch["intrinsics"]
        if "visible" in batch and "query" in batch and "displacement" in batch:
            at = out["query"][:, None, :, :2] + out["displacement"][..., :2]
            out["visible"] = batch["visible"] & ((at >= 0) & (at < 1)).all(-1)
        return out


def _moved(uv: torch.Tensor, uv_map: torch.Tensor) -> torch.Tensor:
    return _turned(uv, uv_map) + uv_map[:, :, 2].to(uv).reshape((-1,) + (1,) * (uv.ndim - 2) + (2,))


def _turned(uv: torch.Tensor, uv_map: torch.Tensor) -> torch.Tensor:
    return (uv_map[:, :, :2].to(uv) @ uv.reshape(len(uv), -1, 2).transpose(1, 2)).transpose(1, 2).reshape(uv.shape)


def _resampled(images: torch.Tensor, uv_map: torch.Tensor, mode: str) -> torch.Tensor:
    """Images (B, F, [3,] S, S) as the map shows them; outside is 0."""
    size = images.shape[-1]
    inverse = torch.linalg.inv(uv_map[:, :, :2])
    offset = -(inverse @ uv_map[:, :, 2:])
    # `grid_sample` counts -1..1 from edge to edge: 2 u - 1.
    theta = torch.cat([inverse, 2 * offset + inverse.sum(-1, keepdim=True) - 1], -1).to(images.device)
    # `grid_sample` takes floats only.
    flat = images.reshape(len(images), -1, size, size).float()
    grid = F.affine_grid(theta, list(flat.shape), align_corners=False)
    sampled = F.grid_sample(flat, grid, mode=mode, align_corners=False).reshape(images.shape)
    return sampled.round().to(images.dtype) if not images.dtype.is_floating_point else sampled


def _size(batch: Batch) -> int:
    for key in _PLANES:
        if key in batch and batch[key].ndim > 2:
            return int(batch[key].shape[-1])
    raise ConfigError("the batch has no images to augment")


def _uniform(shape: int | tuple[int, ...], generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Numbers in -1..1."""
    return 2 * torch.rand(shape, generator=generator, device=generator.device).to(device) - 1
