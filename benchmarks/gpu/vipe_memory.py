"""What ViPE 1.2.0 allocates for a stretch of video, by its own code: the part that grows with frames, on the card and on the host.

``python -m benchmarks.gpu.vipe_memory`` prints the table of docs/models.md. `buffer_bytes` is compared with upstream's class by
``pytest -m upstream``. Networks, their activations and CUDA itself come on top and do not grow; they are for a card to show.
"""

from __future__ import annotations

from dataclasses import dataclass

SLAM_SIZE = (384, 512)
"""Height and width to whose area upstream brings every frame for SLAM."""
INFILL_CHUNK = 16
MAX_EDGES_PER_KEYFRAME = 16
_STRIDE, _CHANNELS = 8, 128


@dataclass(frozen=True)
class StretchMemory:
    """Bytes of one stretch.

    Attributes:
        buffer: of the keyframe buffer on the card, allocated whole.
        graph: of the backend's graph on the card, if it has as many edges as upstream lets it have.
        video_depth: of Video-Depth-Anything's result on the card, at the frames' size.
        host: of the frames that upstream keeps in memory at once.
    """

    buffer: int
    graph: int
    video_depth: int
    host: int


def buffer_bytes(slots: int, height: int, width: int) -> int:
    """Of upstream's GraphBuffer (one view): images and three feature maps in half precision, disparities, masks, poses."""
    cells = (height // _STRIDE) * (width // _STRIDE)
    images, features, disparities, masks = 3 * height * width * 2, 3 * _CHANNELS * cells * 2, 2 * cells * 4, cells
    pose, time, dirty, cross_view = 7 * 4, 4, 1, 2 * 8
    camera = 4 * 4 + 7 * 4
    return slots * (images + features + disparities + masks + pose + time + dirty + cross_view) + camera


def graph_bytes(keyframes: int, height: int, width: int) -> int:
    """Of upstream's FactorGraph in the backend: hidden state in half precision, coordinates, targets, weights, motion."""
    cells = (height // _STRIDE) * (width // _STRIDE)
    return MAX_EDGES_PER_KEYFRAME * keyframes * cells * (_CHANNELS * 2 + (2 + 2 + 2 + 4) * 4)


def host_bytes(frames: int, height: int, width: int) -> int:
    """While Video-Depth-Anything runs: our frames, upstream's cache, its copy of that, the images as floats, two results."""
    cached = 3 * 4 + 1 + 1  # rgb as float32, instance, mask
    return frames * height * width * (3 + cached + cached + 3 * 4 + 2 * 4)


def stretch_memory(
    frames: int, *, keyframe_every: int = 1, size: tuple[int, int] = SLAM_SIZE, slots: int | None = None
) -> StretchMemory:
    """Of a stretch of ``frames``.

    Args:
        keyframe_every: frames per keyframe; 1 is the worst case, hand-held video has some 4.
        size: height and width of the clip; SLAM's own size is always the same area.
        slots: of the buffer; None as our worker sets them.
    """
    slots = frames + INFILL_CHUNK + 1 if slots is None else slots
    return StretchMemory(
        buffer=buffer_bytes(slots, *SLAM_SIZE),
        graph=graph_bytes(frames // keyframe_every, *SLAM_SIZE),
        video_depth=frames * size[0] * size[1] * 4,
        host=host_bytes(frames, *size),
    )


def table() -> str:
    """By stretch, worst case and every fourth frame a keyframe; upstream's own 1,024 slots for comparison."""
    lines = ["| frames | buffer, GB (1,024 slots) | graph, GB (worst) | video depth, GB | host, GB |", "|---|---|---|---|---|"]
    for frames in (1000, 600, 300, 150):
        worst, usual, fixed = stretch_memory(frames), stretch_memory(frames, keyframe_every=4), stretch_memory(frames, slots=1024)
        lines.append(
            f"| {frames} | {worst.buffer / 1e9:.1f} ({fixed.buffer / 1e9:.1f}) | {usual.graph / 1e9:.1f} ({worst.graph / 1e9:.1f})"
            f" | {worst.video_depth / 1e9:.1f} | {worst.host / 1e9:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
