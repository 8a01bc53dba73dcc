"""Storage profiles: the same packaged content as ``default`` (lossless, checked), ``fast`` (for memory maps) or ``tiny`` (lossy).

A profile is one class: which arrays it stores, how a file of the default profile is rewritten, and how the default profile's arrays
are read back. ``fast`` stores every array in one piece, uncompressed, with a CRC-32 as its attribute instead of HDF5's checksums.
``tiny`` stores JPEG frames and 16-bit displacements, and states the errors it made. A new one is a class here and its
name in `PROFILES` (docs/extending.md).
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any, ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts.fields import ZSTD, Field
from videolift.dataset.layout import FIELDS
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.dataset.stored import CRC32, StoredArrays
from videolift.errors import CorruptFile
from videolift.store import read_hdf5

JPEG_BYTES, JPEG_OFFSETS = "rgb_jpeg/bytes", "rgb_jpeg/offsets"
JPEG_QUALITY = 95
UNIT = "unit"
"""Attribute of 16-bit displacements: value = code * unit, per channel."""
MAX_SIZE_PX = 1 << 14
"""Side of a packaged image, at most; a file that states more is not one of ours."""
_DISPLACEMENT = "tracks/displacement"
_JPEG_CHUNK = 1 << 16  # of the size of one frame's JPEG: reading a frame touches a chunk or two
_PART_BYTES = 16 << 20
_STATS = "stats/"


class Profile:
    """``default``: every array as the layout has it, in compressed chunks with checksums. The others differ from it."""

    name: ClassVar[str] = "default"
    fields: ClassVar[tuple[Field, ...]] = FIELDS
    """What its files may hold."""

    def convert(self, source: h5py.File, target: h5py.File, statistics: Accumulators) -> dict[str, Any]:
        """Writes everything of ``source``, a file of the default profile, but its attributes and statistics into ``target``.

        Returns:
            Attributes that state codec parameters and errors. ``statistics`` become those of the values as stored.
        """
        stated: dict[str, Any] = {"profile": self.name}
        for field in FIELDS:
            if field.name in source and not field.name.startswith(_STATS):
                stated |= self._store(source[field.name], target, field, statistics)
        return stated

    def _store(self, dataset: h5py.Dataset, target: h5py.File, field: Field, statistics: Accumulators) -> dict[str, Any]:
        copy = target.create_dataset(field.name, dataset.shape, dataset.dtype, **_zstd(dataset))
        for where in field.runs(dataset.shape, _PART_BYTES):
            copy[where] = read_hdf5(dataset, where)
        return {}

    def shape(self, stored: StoredArrays, name: str) -> tuple[int, ...] | None:
        """Shape of an array of the layout; None where the file does not hold it."""
        return stored.shape(name)

    def read(self, stored: StoredArrays, name: str, where: Any = ...) -> NDArray[Any]:
        """Part of an array of the layout, as the default profile holds it.

        Raises:
            KeyError: the file does not hold it.
            CorruptFile: it cannot be read or decoded.
        """
        return stored.read(name, where)

    def tolerance(self, stored: StoredArrays, name: str) -> float:
        """By how much values of an array may have been moved; 0 where it is exact."""
        return 0.0


class FastProfile(Profile):
    """Every array in one piece, for memory maps."""

    name = "fast"

    def _store(self, dataset: h5py.Dataset, target: h5py.File, field: Field, statistics: Accumulators) -> dict[str, Any]:
        copy = target.create_dataset(field.name, dataset.shape, dataset.dtype)
        for where in field.runs(dataset.shape, _PART_BYTES):
            copy[where] = read_hdf5(dataset, where)
        # Read back in C order, in which a memory map shows it: the parts above may have been written along another axis.
        total, rows = 0, max(1, _PART_BYTES // max(1, copy.nbytes // max(1, len(copy))))
        for start in range(0, len(copy), rows):
            total = zlib.crc32(read_hdf5(copy, slice(start, start + rows)).tobytes(), total)
        copy.attrs[CRC32] = np.uint32(total)
        return {}


class TinyProfile(Profile):
    """Images as JPEG, displacements in 16 bits."""

    name = "tiny"
    fields = (
        *(replace(field, dtype="i2") if field.name == _DISPLACEMENT else field for field in FIELDS if field.name != "rgb"),
        Field(JPEG_BYTES, "u1", (-1,), chunk=_JPEG_CHUNK),
        Field(JPEG_OFFSETS, "i8", (-1,)),
    )

    def _store(self, dataset: h5py.Dataset, target: h5py.File, field: Field, statistics: Accumulators) -> dict[str, Any]:
        if field.name == "rgb":
            return _store_as_jpeg(dataset, target, statistics)
        if field.name == _DISPLACEMENT:
            return _store_in_16_bits(dataset, target, field, statistics)
        return super()._store(dataset, target, field, statistics)

    def shape(self, stored: StoredArrays, name: str) -> tuple[int, ...] | None:
        """As `Profile.shape`."""
        if name != "rgb":
            return stored.shape(name)
        offsets = stored.shape(JPEG_OFFSETS)
        return None if offsets is None else (offsets[0] - 1, 3, *image_size_px(stored)[::-1])

    def read(self, stored: StoredArrays, name: str, where: Any = ...) -> NDArray[Any]:
        """As `Profile.read`."""
        if name != "rgb":
            values = stored.read(name, where)
            return _decode_16_bits(values, _unit_of(stored)) if name == _DISPLACEMENT else values
        size_px, offsets = image_size_px(stored), stored.read(JPEG_OFFSETS)
        first, *rest = where if isinstance(where, tuple) else (where,)
        numbers = np.arange(len(offsets) - 1)[first]
        frames = np.empty((numbers.size, 3, *size_px[::-1]), np.uint8)
        for frame, t in zip(frames, numbers.reshape(-1), strict=True):
            try:
                frame[:] = decode_jpeg(stored.read(JPEG_BYTES, slice(offsets[t], offsets[t + 1])), size_px)
            except CorruptFile as error:
                raise CorruptFile(f"{stored.path}: frame {t} of {JPEG_BYTES}: {error}") from error
        shaped = frames.reshape(*numbers.shape, *frames.shape[1:])
        return shaped[(slice(None),) * numbers.ndim + tuple(rest)]

    def tolerance(self, stored: StoredArrays, name: str) -> float:
        """As `Profile.tolerance`."""
        return float(_unit_of(stored).max()) if name == _DISPLACEMENT else 0.0


PROFILES: dict[str, Profile] = {profile.name: profile for profile in (Profile(), FastProfile(), TinyProfile())}


def _store_as_jpeg(dataset: h5py.Dataset, target: h5py.File, statistics: Accumulators) -> dict[str, Any]:
    frames, worst, squares = len(dataset), 0, 0
    stored = target.create_dataset(JPEG_BYTES, (0,), "u1", maxshape=(None,), chunks=(_JPEG_CHUNK,), fletcher32=True)
    offsets = np.zeros(frames + 1, np.int64)
    # Those were of the frames before JPEG; a trainer normalizes what is read back from it.
    statistics.parts.pop("rgb", None)
    held, start = b"", 0
    for t in range(frames):
        rgb = read_hdf5(dataset, t)
        code = encode_jpeg(rgb)
        decoded = decode_jpeg(code, rgb.shape[:0:-1])
        difference = decoded.astype(np.int32) - rgb
        worst, squares = max(worst, int(np.abs(difference).max())), squares + int((difference**2).sum())
        statistics.add_rgb(decoded[None])
        held, offsets[t + 1] = held + code.tobytes(), offsets[t] + len(code)
        # In large pieces: HDF5 would decompress and compress the last chunk again for every frame that is added.
        if len(held) >= _PART_BYTES or t == frames - 1:
            stored.resize((start + len(held),))
            stored[start:] = np.frombuffer(held, np.uint8)
            held, start = b"", start + len(held)
    target.create_dataset(JPEG_OFFSETS, data=offsets, chunks=offsets.shape, fletcher32=True)
    psnr = float(10 * np.log10(255**2 * max(dataset.size, 1) / squares)) if squares else None
    return {"rgb_codec": {"name": "jpeg", "quality": JPEG_QUALITY, "chroma": "4:4:4", "psnr_db": psnr, "max_error": worst}}


def encode_jpeg(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One frame (3, S, S) as JPEG bytes."""
    import cv2  # only `tiny` needs it, and a trainer may lack it

    full_chroma = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    # Colour at half the resolution (4:2:0) would take 15 to 26 % less room and cost 2 dB (measured).
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full_chroma]
    bgr = np.ascontiguousarray(rgb[::-1].transpose(1, 2, 0))
    done, code = cv2.imencode(".jpg", bgr, options)
    if not done:
        raise RuntimeError("OpenCV refused to encode a JPEG")
    return code


def decode_jpeg(code: NDArray[np.uint8], size_px: tuple[int, ...]) -> NDArray[np.uint8]:
    """Inverse of `encode_jpeg`, up to JPEG's loss: u8 (3, H, W) of an image of ``size_px`` (W, H).

    Raises:
        CorruptFile: not a JPEG, or not of that size.
    """
    # First the size that it states, without decoding: a header may claim more pixels than there is memory.
    octets, at, stated = code.tobytes(), 2, (0, 0)
    while octets[:2] == b"\xff\xd8" and at + 9 <= len(octets) and octets[at] == 0xFF and stated == (0, 0):
        marker, length = octets[at + 1], int.from_bytes(octets[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of a frame, of whatever kind
            stated = int.from_bytes(octets[at + 5 : at + 7], "big"), int.from_bytes(octets[at + 7 : at + 9], "big")
        at += 2 + max(length, 2)
    if stated != size_px[::-1]:
        raise CorruptFile(f"it is not a JPEG of {size_px[0]} x {size_px[1]} pixels")
    import cv2

    bgr = cv2.imdecode(code, cv2.IMREAD_COLOR)
    if bgr is None or bgr.shape != (*size_px[::-1], 3):
        raise CorruptFile("its JPEG cannot be decoded")
    return np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1))


def _store_in_16_bits(dataset: h5py.Dataset, target: h5py.File, field: Field, statistics: Accumulators) -> dict[str, Any]:
    # Two passes: the unit must be known before the first value is stored.
    largest = np.zeros(3)
    if dataset.size:
        for where in field.runs(dataset.shape, _PART_BYTES):
            largest = np.maximum(largest, np.abs(read_hdf5(dataset, where)).max((0, 1)))
    # Smaller than float16 and more exact, where values stay below 2 (measured: 0.30 of float32's bytes, float16 takes 0.41).
    # A power of two, so that decoding is exact in float32; 2^-14 unless the values need more room.
    unit = np.maximum(2.0**-14, 2.0 ** np.ceil(np.log2(np.maximum(largest, 2.0**-30) / 32767)))
    copy = target.create_dataset(dataset.name, dataset.shape, "i2", **_zstd(dataset))
    copy.attrs[UNIT] = unit
    worst, visible = np.zeros(3), dataset.parent["visible"]
    statistics.parts.pop("displacement", None)
    for where in field.runs(dataset.shape, _PART_BYTES):
        part = read_hdf5(dataset, where)
        codes = np.rint(part / unit).astype(np.int16)
        copy[where] = codes
        decoded = _decode_16_bits(codes, unit)
        statistics.add("displacement", decoded[read_hdf5(visible, where)])
        if part.size:
            worst = np.maximum(worst, np.abs(decoded - part).max((0, 1)))
    return {"displacement_codec": {"name": "int16", "unit": unit.tolist(), "max_error": worst.tolist()}}


def _zstd(dataset: h5py.Dataset) -> dict[str, Any]:
    if not dataset.size:
        return {}
    chunks = tuple(map(min, dataset.chunks, dataset.shape))
    return {"chunks": chunks, "fletcher32": True, "shuffle": True, **ZSTD}


def _decode_16_bits(codes: NDArray[np.int16], unit: NDArray[np.float64]) -> NDArray[np.float32]:
    """Displacements from their codes."""
    return codes.astype(np.float32) * unit.astype(np.float32)


def _unit_of(stored: StoredArrays) -> NDArray[np.float64]:
    unit = stored.attribute_of(_DISPLACEMENT, UNIT)
    if not isinstance(unit, np.ndarray) or unit.shape != (3,) or not (np.isfinite(unit) & (unit > 0)).all():
        raise CorruptFile(f"{stored.path}: {UNIT} of {_DISPLACEMENT} is {unit!r}, expected three positive numbers")
    return unit


def image_size_px(stored: StoredArrays) -> tuple[int, int]:
    """(width, height) of a file's images; older releases wrote squares alone, and ``size``.

    Raises:
        CorruptFile: what it states is not a size.
    """
    size = stored.attribute("size_px") or [stored.attribute("size")] * 2
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(n, int) and 0 < n <= MAX_SIZE_PX for n in size):
        raise CorruptFile(f"{stored.path}: size is {size!r}, expected 1 to {MAX_SIZE_PX} pixels")
    return size[0], size[1]
