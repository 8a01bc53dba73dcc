"""Packaged files damaged at random, and what verification and the reader make of them. Each mutant follows from its seed alone."""

from __future__ import annotations

import resource
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np

from videolift.dataset.file import PackagedFile
from videolift.dataset.layout import FIELDS
from videolift.dataset.verify import verify_file
from videolift.errors import CorruptFile
from videolift.reader import Selection, WindowDataset

MEMORY_BYTES = 2 << 30
"""Of address space that reading a mutant may take; the files are of 2 MB."""
Random = np.random.Generator


def limit_memory() -> None:
    """In a process of its own: more than this and the mutant has decided how much is allocated."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, -1))


def flip_bits(content: bytearray, rng: Random) -> None:
    for _ in range(int(rng.integers(1, 9))):
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))


def flip_bits_in_the_head(content: bytearray, rng: Random) -> None:
    for _ in range(int(rng.integers(1, 5))):
        content[int(rng.integers(4096))] ^= 1 << int(rng.integers(8))


def cut(content: bytearray, rng: Random) -> None:
    del content[int(rng.integers(len(content))) :]


def empty_a_block(content: bytearray, rng: Random) -> None:
    start = int(rng.integers(len(content)))
    block = content[start : start + int(rng.integers(1, 5000))]
    content[start : start + len(block)] = bytes(len(block))


def swap_blocks(content: bytearray, rng: Random) -> None:
    size = int(rng.integers(16, 4096))
    a, b = sorted(int(x) for x in rng.integers(0, len(content) - size, 2))
    if b >= a + size:
        content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]


def append_rubbish(content: bytearray, rng: Random) -> None:
    content += rng.bytes(1000)


BYTES: tuple[Callable[[bytearray, Random], None], ...] = (
    *(flip_bits, flip_bits_in_the_head, flip_bits, cut, empty_a_block, swap_blocks, append_rubbish),
)
"""Harm to bytes: whatever can be read afterwards must be what was there before."""


def some_array(file: h5py.File, rng: Random) -> str:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names[int(rng.integers(len(names)))]


def some_attribute(file: h5py.File, rng: Random) -> str:
    names = sorted(set(file.attrs) - {"text", "subject", "metadata", "fps", "seed", "lineage", "framing", "clip_size_px"})
    return names[int(rng.integers(len(names)))]


def drop_an_array(file: h5py.File, rng: Random) -> None:
    del file[some_array(file, rng)]


def retype_an_array(file: h5py.File, rng: Random) -> None:
    name = some_array(file, rng)
    shape = file[name].shape
    del file[name]
    variable = h5py.string_dtype(), h5py.vlen_dtype("f4"), h5py.ref_dtype
    kinds = ("f8", "i2", "S3", "c8", np.dtype([("a", "i4"), ("b", "f4")]), *variable)
    file.create_dataset(name, shape, kinds[int(rng.integers(len(kinds)))])


def reshape_an_array(file: h5py.File, rng: Random) -> None:
    name = some_array(file, rng)
    values = file[name][...]
    del file[name]
    shapes = (values.reshape(-1), values[None], values[..., :1], values[:-1], values[:0], np.concatenate([values, values]))
    others = [array for array in shapes if array.shape != values.shape]
    values = others[int(rng.integers(len(others)))]
    file.create_dataset(name, data=values, **({"chunks": values.shape, "fletcher32": True} if values.size else {}))


def claim_a_huge_array(file: h5py.File, rng: Random) -> None:
    name = some_array(file, rng)
    field = file[name]
    shape = [max(n, 1) for n in field.shape]
    shape[int(rng.integers(field.ndim))] = 10**6
    dtype = field.dtype
    del file[name]
    file.create_dataset(name, tuple(shape), dtype, chunks=tuple(min(n, 64) for n in shape), fletcher32=True)


def make_it_a_group(file: h5py.File, rng: Random) -> None:
    name = some_array(file, rng)
    del file[name]
    file.create_group(name)


def make_it_a_scalar(file: h5py.File, rng: Random) -> None:
    name = some_array(file, rng)
    del file[name]
    file[name] = 3.0


def link_in_a_circle(file: h5py.File, rng: Random) -> None:
    name = some_array(file, rng)
    del file[name]
    file[name] = h5py.SoftLink("/" + name)


def link_softly(file: h5py.File, rng: Random) -> None:
    name, other = some_array(file, rng), some_array(file, rng)
    del file[name]
    file[name] = h5py.SoftLink("/" + other)


def hold_itself(file: h5py.File, rng: Random) -> None:
    group = ("tracks", "hands", "camera")[int(rng.integers(3))]
    file[f"{group}/itself"] = file if rng.integers(2) else file[group]


def put_in_a_stranger(file: h5py.File, rng: Random) -> None:
    file["extra/deeper/values"] = np.arange(5)


def fill_with_rubbish(file: h5py.File, rng: Random) -> None:
    data = file[some_array(file, rng)]
    rubbish = np.frombuffer(rng.bytes(data.nbytes), np.uint8) if data.size else np.empty(0, np.uint8)
    values = rubbish % 2 == 1 if data.dtype == bool else rubbish.view(data.dtype)
    data[...] = values[: data.size].reshape(data.shape)
    if "crc32" in data.attrs:
        data.attrs["crc32"] = np.uint32(zlib.crc32(data[...].tobytes()))


def drop_an_attribute(file: h5py.File, rng: Random) -> None:
    del file.attrs[some_attribute(file, rng)]


def retype_an_attribute(file: h5py.File, rng: Random) -> None:
    name = some_attribute(file, rng)
    texts = b"json:[1,", b"json:{}", b"json:null", b"json:" + b"[" * 5000, b"\xff\xfe", "text"
    values = (*texts, -1, 0, 10**15, np.nan, np.zeros(3))
    value = values[int(rng.integers(len(values)))]
    del file.attrs[name]
    file.attrs[name] = value


STRUCTURE: tuple[Callable[[h5py.File, Random], None], ...] = (
    *(drop_an_array, retype_an_array, reshape_an_array, claim_a_huge_array, make_it_a_group, make_it_a_scalar),
    *(link_in_a_circle, link_softly, hold_itself, put_in_a_stranger),
)
"""Harm by somebody who writes correct HDF5: a finding, and no other error than CorruptFile."""
CONTENT: tuple[Callable[[h5py.File, Random], None], ...] = (fill_with_rubbish, drop_an_attribute, retype_an_attribute)
"""No other error than CorruptFile. Whether there is a finding depends on what was hit: a score may be any number."""


def read_all(path: Path) -> dict[str, bytes]:
    """Everything that can be read, by name; arrays that cannot be read are absent."""
    arrays: dict[str, bytes] = {}
    try:
        with PackagedFile(path, checked=True) as file:
            for name in (field.name for field in FIELDS):
                try:
                    if file.has(name):
                        arrays[name] = file.array(name).tobytes()
                except CorruptFile:
                    continue
        windows = WindowDataset([path], Selection(points=None))
        for i in range(len(windows)):
            windows[i]
    except CorruptFile:
        pass
    return arrays


def try_mutant(originals: dict[str, str], folder: str, seed: int) -> str:
    """What is wrong with how mutant ``seed`` is treated; empty where nothing is. Run it in a process that may die.

    Raises:
        Whatever verification and reader raise: none but a `CorruptFile`, which they catch themselves, is right.
    """
    rng = np.random.default_rng(seed)
    profile = list(originals)[seed % len(originals)]
    original, path = Path(originals[profile]), Path(folder) / f"mutant{seed}.hdf5"
    steps = (*BYTES, *STRUCTURE, *CONTENT)
    step = steps[seed // len(originals) % len(steps)]
    if step in BYTES:
        content = bytearray(original.read_bytes())
        step(content, rng)
        path.write_bytes(content)
    else:
        shutil.copy(original, path)
        with h5py.File(path, "r+", libver=("v110", "v110")) as file:
            step(file, rng)
    what = f"mutant {seed}, {profile}, {step.__name__}"
    try:
        findings = verify_file(path)
        arrays = read_all(path)
    finally:
        path.unlink()
    if step in BYTES:
        known = read_all(original)
        wrong = [name for name, values in arrays.items() if values != known[name]]
        return f"{what}: {wrong} are read as something else" if wrong else ""
    return f"{what}: no finding" if step in STRUCTURE and not findings else ""
