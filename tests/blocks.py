"""Settings as a video gets them, for tests."""

from pathlib import Path

from stages.settings import parse_config, settings_for
from videolift.config import StageBlock
from videolift.inputs.video import Video


def blocks_of(video: str = "v", *, depth_file: Path | None = None, **tree: object) -> dict[str, StageBlock]:
    """Stage to its settings for a video, of a configuration ``tree``."""
    return settings_for(parse_config(tree), Video(video, video, depth=depth_file))
