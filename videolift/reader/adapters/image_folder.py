"""A folder of images, one folder per class, or some of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videolift.errors import ConfigError, CorruptFile
from videolift.reader.adapters.images import decode_image
from videolift.reader.frames import Sample

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class ImageFolder:
    """A sample is an image: ``image`` u8 (3, H, W), ``class_index`` (among those chosen), ``class`` and ``video``.

    Args:
        folder: holds one folder per class.
        classes: only these, numbered in this order; None for all, by name.
        size_px: (W, H) to resize to; needed where images differ in size.

    Raises:
        ConfigError: no such class, or no images.
    """

    def __init__(self, folder: Path, *, classes: Sequence[str] | None = None, size_px: tuple[int, int] | None = None) -> None:
        self.folder, self.size_px = Path(folder), size_px
        present = sorted(path.name for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        self.classes = tuple(present if classes is None else classes)
        unknown = set(self.classes) - set(present)
        if unknown:
            raise ConfigError(f"{folder} has no class {', '.join(sorted(unknown))}; it has {', '.join(present) or 'none'}")
        # Sorted: an index must name the same image on every machine.
        self.files = [
            (path, label)
            for label, name in enumerate(self.classes)
            for path in sorted((self.folder / name).iterdir())
            if path.suffix.lower() in IMAGE_SUFFIXES
        ]
        if not self.files:
            raise ConfigError(
                f"{folder} has no images ({', '.join(IMAGE_SUFFIXES)}) in folders {', '.join(self.classes) or 'of classes'}"
            )

    def __len__(self) -> int:
        return len(self.files)

    def open(self, index: int, *, epoch: int = 0) -> Sample:
        """See the class.

        Raises:
            IndexError: no such image.
            CorruptFile: it cannot be decoded.
        """
        path, label = self.files[index]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CorruptFile(f"{path}: {error}") from error
        image = decode_image(content, str(path), self.size_px)
        # Not named ``label``, which in our windows is one number per point.
        return {"image": image, "class_index": np.array(label), "class": self.classes[label], "video": path.stem}
