"""What a stage hands to the next: Clip, Depth, Tracks, Hands; lazy to read, validated, published whole or not at all."""

from videolift.artifacts.base import Artifact, ArtifactWriter, Published
from videolift.artifacts.clip import Clip, ClipWriter
from videolift.artifacts.depth import Depth, DepthWriter
from videolift.artifacts.hands import JOINTS, MANO_JOINTS, METHODS, PALM_JOINTS, SIDES, Hands, HandsWriter
from videolift.artifacts.tracks import Tracks, TracksWriter

__all__ = [
    "JOINTS",
    "MANO_JOINTS",
    "METHODS",
    "PALM_JOINTS",
    "SIDES",
    "Artifact",
    "ArtifactWriter",
    "Clip",
    "ClipWriter",
    "Depth",
    "DepthWriter",
    "Hands",
    "HandsWriter",
    "Published",
    "Tracks",
    "TracksWriter",
]
