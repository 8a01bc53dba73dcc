"""Storage profiles: the same packaged content as ``default`` (lossless, checked), ``fast`` (for memory maps) or ``tiny`` (lossy).

`convert` rewrites a file of the default profile. ``fast`` stores every array in one piece, uncompressed, with a CRC-32 as its
attribute instead of HDF5's checksums. ``tiny`` stores JPEG frames and 16-bit displacements, and states the errors it made.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts.fields import ZSTD, Field
from videolift.dataset.layout import FIELDS
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.errors import CorruptFile
from videolift.store import read_hdf5

PROFILES = ("default", "fast", "tiny")
JPEG_BYTES, JPEG_OFFSETS = "rgb_jpeg/bytes", "rgb_jpeg/offsets"
JPEG_QUALITY = 95
UNIT = "unit"
"""Attribute of 16-bit displacements: value = code * unit, per channel."""
CRC32 = "crc32"
_JPEG_CHUNK = 1 << 16
_PART_BYTES = 16 << 20
_STATS = "stats/"


def convert(source: h5py.File, target: h5py.File, profile: str, statistics: Accumulators) -> dict[str, Any]:
    """Writes everything of ``source`` but its attributes and statistics into ``target``.

    Returns:
        Attributes that state codec parameters and errors. ``statistics`` become those of the values as stored.
    """
    stated: dict[str, Any] = {"profile": profile}
    for field in FIELDS:
        if field.name not in source or field.name.startswith(_STATS):
            continue
        dataset = source[field.name]
        if profile == "fast":
            _copy_in_one_piece(dataset, target, field)
        elif field.name == "rgb":
            stated |= _copy_as_jpeg(dataset, target, statistics)
        elif field.name == "tracks/displacement":
            stated |= _copy_as_16_bit(dataset, target, statistics)
        else:
            _copy_compressed(dataset, target, field)
    return stated


def _parts(dataset: h5py.Dataset, field: Field) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
    axis = field.axis
    if axis is None or not dataset.size:
        yield (slice(None),) * dataset.ndim, read_hdf5(dataset)
        return
    length = dataset.shape[axis]
    rows = max(field.chunk, _PART_BYTES // max(1, dataset.nbytes // length) // field.chunk * field.chunk)
    for start in range(0, length, rows):
        where = (slice(None),) * axis + (slice(start, min(start + rows, length)),)
        yield where, read_hdf5(dataset, where)


def _copy_in_one_piece(dataset: h5py.Dataset, target: h5py.File, field: Field) -> None:
    copy = target.create_dataset(field.name, dataset.shape, dataset.dtype)
    for where, part in _parts(dataset, field):
        copy[where] = part
    copy.attrs[CRC32] = np.uint32(crc32_of(copy))


def crc32_of(dataset: h5py.Dataset) -> int:
    """CRC-32 of a dataset's bytes in C order."""
    total, rows = 0, max(1, _PART_BYTES // max(1, dataset.nbytes // max(1, len(dataset))))
    for start in range(0, len(dataset), rows):
        total = zlib.crc32(read_hdf5(dataset, slice(start, start + rows)).tobytes(), total)
    return total


def _copy_compressed(dataset: h5py.Dataset, target: h5py.File, field: Field) -> None:
    copy = target.create_dataset(field.name, dataset.shape, dataset.dtype, **_zstd(dataset))
    for where, part in _parts(dataset, field):
        copy[where] = part


def _copy_as_jpeg(dataset: h5py.Dataset, target: h5py.File, statistics: Accumulators) -> dict[str, Any]:
    frames, worst, squares = len(dataset), 0, 0
    stored = target.create_dataset(JPEG_BYTES, (0,), "u1", maxshape=(None,), chunks=(_JPEG_CHUNK,), fletcher32=True)
    offsets = np.zeros(frames + 1, np.int64)
    statistics.parts.pop("rgb", None)
    held, start = b"", 0
    for t in range(frames):
        rgb = read_hdf5(dataset, t)
        code = encode_jpeg(rgb)
        decoded = decode_jpeg(code)
        difference = decoded.astype(np.int32) - rgb
        worst, squares = max(worst, int(np.abs(difference).max())), squares + int((difference**2).sum())
        statistics.add_rgb(decoded[None])
        held, offsets[t + 1] = held + code.tobytes(), offsets[t] + len(code)
        if len(held) >= _PART_BYTES or t == frames - 1:
            stored.resize((start + len(held),))
            stored[start:] = np.frombuffer(held, np.uint8)
            held, start = b"", start + len(held)
    target.create_dataset(JPEG_OFFSETS, data=offsets, chunks=offsets.shape, fletcher32=True)
    psnr = float(10 * np.log10(255**2 * max(dataset.size, 1) / squares)) if squares else None
    return {"rgb_codec": {"name": "jpeg", "quality": JPEG_QUALITY, "chroma": "4:4:4", "psnr_db": psnr, "max_error": worst}}


def encode_jpeg(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One frame (3, S, S) as JPEG bytes."""
    full_chroma = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full_chroma]
    bgr = np.ascontiguousarray(rgb[::-1].transpose(1, 2, 0))
    done, code = cv2.imencode(".jpg", bgr, options)
    if not done:
        raise RuntimeError("OpenCV refused to encode a JPEG")
    return code


def decode_jpeg(code: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Inverse of `encode_jpeg`, up to JPEG's loss.

    Raises:
        CorruptFile: no JPEG.
    """
    bgr = cv2.imdecode(code, cv2.IMREAD_COLOR)
    if bgr is None:
        raise CorruptFile("a frame is no JPEG")
    return np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1))


def _copy_as_16_bit(dataset: h5py.Dataset, target: h5py.File, statistics: Accumulators) -> dict[str, Any]:
    field = next(field for field in FIELDS if field.name == "tracks/displacement")
    largest = np.zeros(3)
    if dataset.size:
        for _, part in _parts(dataset, field):
            largest = np.maximum(largest, np.abs(part).max((0, 1)))
    # A power of two, so that decoding is exact in float32; 2^-14 unless the values need more room.
    unit = np.maximum(2.0**-14, 2.0 ** np.ceil(np.log2(np.maximum(largest, 2.0**-30) / 32767)))
    copy = target.create_dataset(dataset.name, dataset.shape, "i2", **_zstd(dataset))
    copy.attrs[UNIT] = unit
    worst = np.zeros(3)
    statistics.parts.pop("displacement", None)
    for where, part in _parts(dataset, field):
        codes = np.rint(part / unit).astype(np.int16)
        copy[where] = codes
        decoded = decode_16_bit(codes, unit)
        statistics.add("displacement", decoded)
        if part.size:
            worst = np.maximum(worst, np.abs(decoded - part).max((0, 1)))
    return {"displacement_codec": {"name": "int16", "unit": unit.tolist(), "max_error": worst.tolist()}}


def _zstd(dataset: h5py.Dataset) -> dict[str, Any]:
    if not dataset.size:
        return {}
    chunks = tuple(map(min, dataset.chunks, dataset.shape))
    return {"chunks": chunks, "fletcher32": True, "shuffle": True, **ZSTD}


def decode_16_bit(codes: NDArray[np.int16], unit: NDArray[np.float64]) -> NDArray[np.float32]:
    """Displacements from their codes."""
    return codes.astype(np.float32) * unit.astype(np.float32)
