"""What a report says of one video beyond its state: depth's worth, figures of quality, hands, a small picture.

Read from artifacts and receipts; whatever is not there is left out. Renders nothing but the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import SIDES, Hands
from videolift.config import STAGES
from videolift.dataset.layout import SquareView
from videolift.errors import ConfigError, CorruptFile
from videolift.geometry import Float
from videolift.records.receipts import Receipt, ReceiptCache
from videolift.report.findings import Findings
from videolift.report.preview import Painter, poster_frame

Flags = NDArray[np.bool_]
THUMBNAIL_PX = 480


@dataclass(frozen=True)
class HandFacts:
    """Of one video, shares of its frames and of its hands.

    Attributes:
        valid: side to the share of frames with a wrist pose.
        interpolated: share of those that were filled between measured ones.
        cut_by_edge, cut_by_square: share of seen hands of which a keypoint lies outside the clip's picture, or outside the centred
            square that is packaged.
    """

    valid: Mapping[str, float]
    interpolated: float
    cut_by_edge: float
    cut_by_square: float


@dataclass(frozen=True)
class VideoFacts:
    """Everything but the state; mappings are empty where nothing is known.

    Attributes:
        clip: size, frames, rate and length, as text.
        worth: tier, scale, pose, intrinsics of the depth.
        backends: stage to backend name.
        figures: stage to the figures of quality in its receipt.
        hands: None without hand artifact.
        thumbnail_jpeg: the poster's picture, None where there is none.
    """

    clip: str = ""
    worth: Mapping[str, str] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    hands: HandFacts | None = None
    thumbnail_jpeg: bytes | None = None


def gather(output: Path, video: str, receipts: ReceiptCache, *, picture: bool) -> VideoFacts:
    """Reads what is there of ``video``; a damaged or missing clip leaves what the receipts say."""
    known: dict[str, Receipt] = {stage: receipt for stage in STAGES if (receipt := receipts(stage, video)) is not None}
    backends = {stage: str(receipt.backend.get("name", "?")) for stage, receipt in known.items()}
    figures = {stage: dict(receipt.figures) for stage, receipt in known.items() if receipt.figures}
    try:
        with Findings.open(output, video) as found:
            return _of_artifacts(found, backends, figures, picture=picture)
    except (ConfigError, CorruptFile):
        return VideoFacts(backends=backends, figures=figures)


def _of_artifacts(
    found: Findings, backends: Mapping[str, str], figures: Mapping[str, Mapping[str, float]], *, picture: bool
) -> VideoFacts:
    clip, depth = found.clip, found.depth
    pts_seconds = clip.pts_seconds
    seconds = float(pts_seconds[-1] - pts_seconds[0]) if len(clip) else 0.0
    worth = {} if depth is None else {name: str(depth.attrs[name]) for name in ("tier", "scale", "pose", "intrinsics")}
    return VideoFacts(
        clip=f"{clip.width} x {clip.height}, {len(clip)} frames, {clip.fps:g} fps, {seconds:.1f} s",
        worth=worth,
        backends={stage: name for stage in STAGES if (name := backends.get(stage) or found.backends.get(stage))},
        figures=figures,
        hands=None if found.hands is None else hand_facts(found.hands, clip.width, clip.height),
        thumbnail_jpeg=thumbnail(found) if picture else None,
    )


def hand_facts(hands: Hands, width_px: int, height_px: int) -> HandFacts:
    """Counts hands that are there, filled in, and cut off."""
    valid, keypoints_px = hands.valid, hands.keypoints_px.astype(np.float64)
    seen = np.isfinite(keypoints_px).all((-1, -2))
    square = SquareView.of(width_px, height_px, min(width_px, height_px))
    return HandFacts(
        valid={name: _share(valid[:, side]) for side, name in enumerate(SIDES)},
        interpolated=_share(hands.interpolated[valid]),
        cut_by_edge=_share(_outside(keypoints_px[seen], width_px, height_px)),
        cut_by_square=_share(_outside(square.pixels(keypoints_px[seen]), square.size, square.size)),
    )


def thumbnail(found: Findings) -> bytes:
    """The poster's picture, small, as JPEG."""
    rgb = Painter(found).paint(poster_frame(found))
    size = THUMBNAIL_PX, round(rgb.shape[0] * THUMBNAIL_PX / rgb.shape[1])
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def _outside(uv_px: Float, width_px: int, height_px: int) -> Flags:
    """(n) True where a keypoint of (n, 21, 2) lies outside a picture that spans [-0.5, W - 0.5)."""
    return np.asarray(((uv_px < -0.5) | (uv_px >= np.array([width_px, height_px]) - 0.5)).any((-1, -2)))


def _share(flags: Flags) -> float:
    return float(np.mean(flags)) if np.size(flags) else 0.0
