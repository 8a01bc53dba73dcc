"""The images of exported episodes as H.264 videos, many episodes to a file, where LeRobot's v3.0 loader finds them by time."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.errors import ConfigError
from videolift.h264 import H264Writer
from videolift.store import atomic_file

CRF = 16
"""x264's quality; LeRobot's writer takes 30, which blurs fingers a few pixels wide."""
KEY_EVERY = 2
"""As LeRobot's writer: a trainer reads single frames at random, and decodes from the key frame before."""
# As LeRobot's own writer, like the number of files per folder.
MAX_FILE_MB = 200
MAX_FILE_SECONDS = 600
"""LeRobot compares times within 0.1 ms as 32-bit floats, which are further apart than that beyond 1,024 s."""
_FILES_PER_CHUNK = 1000


def check_even(size_px: tuple[int, int]) -> None:
    """Refuses images that 4:2:0 colour cannot hold.

    Raises:
        ConfigError: a side is odd.
    """
    if any(side % 2 for side in size_px):
        raise ConfigError("images are {} x {} pixels; H.264 needs even numbers".format(*size_px))


def video_feature(size_px: tuple[int, int], fps: float) -> dict[str, Any]:
    """What ``info.json`` says of images (W, H) that are kept as video."""
    width, height = size_px
    video = {
        "height": height,
        "width": width,
        "codec": "h264",
        "pix_fmt": "yuv420p",
        "fps": fps,
        "channels": 3,
        "is_depth_map": False,
    }
    info = {f"video.{name}": value for name, value in video.items()} | {"has_audio": False}
    return {"dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"], "info": info}


@dataclass
class EpisodeVideos:
    """Appends episodes to files of at most some 200 MB and 10 minutes; a context manager that ends the last one.

    Attributes:
        root: of the dataset.
        pattern: of a file's path, with ``chunk_index`` and ``file_index``.
        size_px, fps: of all episodes.
        files: those begun.
    """

    root: Path
    pattern: str
    size_px: tuple[int, int]
    fps: float
    files: list[Path] = field(default_factory=list)
    _frames: int = 0
    _temporary: Path | None = None
    _movie: H264Writer | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    def add_episode(self, images: NDArray[np.uint8]) -> dict[str, Any]:
        """Takes an episode's images u8 (n, 3, H, W).

        Returns:
            Where it is: ``chunk_index`` and ``file_index``, ``from_timestamp`` and ``to_timestamp`` in seconds of that file.
        """
        # The encoder holds its first frames back: until it gives one, there is no file.
        full = self._temporary is not None and self._temporary.exists() and self._temporary.stat().st_size > MAX_FILE_MB << 20
        late = self._frames > 0 and self._frames + len(images) > MAX_FILE_SECONDS * self.fps
        # Only between episodes: a file must hold an episode whole.
        if self._movie is None or full or late:
            self._open.close()
            chunk, number = divmod(len(self.files), _FILES_PER_CHUNK)
            self.files.append(self.root / self.pattern.format(chunk_index=chunk, file_index=number))
            self._temporary = self._open.enter_context(atomic_file(self.files[-1]))
            writer = H264Writer(self._temporary, self.size_px, self.fps, crf=CRF, key_every=KEY_EVERY)
            self._movie, self._frames = self._open.enter_context(writer), 0
        first = self._frames
        for image in images:
            self._movie.write(image.transpose(1, 2, 0))
        self._frames += len(images)
        chunk, number = divmod(len(self.files) - 1, _FILES_PER_CHUNK)
        times = {"from_timestamp": first / self.fps, "to_timestamp": self._frames / self.fps}
        return {"chunk_index": chunk, "file_index": number, **times}

    def __enter__(self) -> EpisodeVideos:
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)
