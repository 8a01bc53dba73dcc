"""The same video in other layouts, for `benchmarks/dataset.py`: written and read as a careful user of each would.

`Y2r` follows the predecessor's description (a group per frame, float32 depth), read lazily, which is faster than its own loader.
The peers hold the same arrays: Zarr v3 (blosc zstd, a chunk per frame), H.264 + Parquet as robot datasets do, a folder of .npy.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Protocol

import cv2
import h5py
import hdf5plugin  # noqa: F401
import numpy as np

from videolift.reader import PackagedFile, Selection, WindowDataset

Arrays = dict[str, Any]
"""rgb (T,3,S,S) u8, depth (T,S,S) f16, intrinsics, offsets (W+1), query (N,3), displacement (L,N,3), pose9d (W,L,9), hands."""


class Store(Protocol):
    """One layout. `sample` returns rgb, depth, query, displacement and pose of one window."""

    name: str

    def write(self, path: Path, arrays: Arrays) -> None: ...
    def open(self, path: Path) -> Any: ...
    def index(self, path: Path) -> np.ndarray:
        """Points per window."""

    def sample(self, handle: Any, window: int, points: int | None) -> tuple[np.ndarray, ...]: ...


def run_of(rng: np.random.Generator, present: int, points: int | None) -> slice:
    if points is None or points >= present:
        return slice(None)
    start = int(rng.integers(present - points + 1))
    return slice(start, start + points)


class Y2r:
    name = "y2r, read lazily"

    def write(self, path: Path, arrays: Arrays) -> None:
        with h5py.File(path, "w") as file:
            file["root/video"] = arrays["rgb"]
            file["root/depth"] = arrays["depth"].astype(np.float32)
            file["root/intrinsics"] = arrays["intrinsics"]
            for w in range(len(arrays["offsets"]) - 1):
                part = slice(arrays["offsets"][w], arrays["offsets"][w + 1])
                group = file.create_group(f"root/tracks/frame_{w:04d}")
                group["query_coords"], group["displacements"] = arrays["query"][part], arrays["displacement"][:, part]
                group["poses"] = arrays["pose9d"][w]
                for name in ("query_uvd", "displacement_uvd", "query_rot6d", "displacement_rot6d"):
                    group[f"right_wrist_{name}"] = arrays["hands"][f"window_{name}"][w, 1]

    def open(self, path: Path) -> h5py.File:
        return h5py.File(path, "r")

    def index(self, path: Path) -> np.ndarray:
        with h5py.File(path, "r") as file:
            groups = file["root/tracks"]
            return np.array([groups[name]["query_coords"].shape[0] for name in groups])

    def sample(self, handle: h5py.File, window: int, points: int | None) -> tuple[np.ndarray, ...]:
        root, group = handle["root"], handle[f"root/tracks/frame_{window:04d}"]
        query, displacement = group["query_coords"][...], group["displacements"][...]
        if points is not None and points < len(query):
            chosen = np.sort(np.random.choice(len(query), points, replace=False))  # noqa: NPY002  as the predecessor draws
            query, displacement = query[chosen], displacement[:, chosen]
        names = ("query_uvd", "displacement_uvd", "query_rot6d", "displacement_rot6d")
        hands = [group[f"right_wrist_{name}"][...] for name in names]
        return root["video"][window], root["depth"][window], query, displacement, group["poses"][...], *hands


class Ours:
    """A packaged file, in any profile; ``write`` is timed elsewhere."""

    def __init__(self, profile: str) -> None:
        self.name = f"videolift {profile}"

    def open(self, path: Path) -> tuple[WindowDataset, WindowDataset]:
        return WindowDataset([path]), WindowDataset([path], Selection(points=64))

    def index(self, path: Path) -> np.ndarray:
        with PackagedFile(path) as file:
            return np.stack([file.points, *file.hands_whole.T])

    def sample(self, handle: Any, window: int, points: int | None) -> tuple[np.ndarray, ...]:
        sample = handle[points is not None][window]
        return tuple(value for value in sample.values() if isinstance(value, np.ndarray))


class Npy:
    name = "npy folder, memory map"

    def write(self, path: Path, arrays: Arrays) -> None:
        path.mkdir()
        for name, array in {**arrays, **arrays["hands"]}.items():
            if name != "hands":
                np.save(path / f"{name}.npy", array)

    def open(self, path: Path) -> dict[str, np.ndarray]:
        return {file.stem: np.load(file, mmap_mode="r") for file in path.iterdir()}

    def index(self, path: Path) -> np.ndarray:
        return np.diff(np.load(path / "offsets.npy"))

    def sample(self, handle: Any, window: int, points: int | None) -> tuple[np.ndarray, ...]:
        start, stop = handle["offsets"][window : window + 2]
        run = run_of(np.random.default_rng(window), stop - start, points)
        query, displacement = handle["query"][start:stop][run], handle["displacement"][:, start:stop][:, run]
        hands = [np.array(handle[name][window]) for name in handle if name.startswith("window_")]
        views = (handle["rgb"][window], handle["depth"][window], query, displacement, handle["pose9d"][window])
        return *(np.array(view) for view in views), *hands


class Zarr:
    name = "Zarr v3"

    def write(self, path: Path, arrays: Arrays) -> None:
        import zarr
        from zarr.codecs import BloscCodec

        group, codec = zarr.open_group(str(path), mode="w"), BloscCodec(cname="zstd", clevel=1)
        chunks = {"rgb": 1, "depth": 1, "query": 1024, "pose9d": 64}
        for name, array in {**arrays, **arrays["hands"]}.items():
            if name != "hands":
                shape = (array.shape[0], 512, 3) if name == "displacement" else (chunks.get(name, len(array)), *array.shape[1:])
                group.create_array(name, data=array, chunks=shape, compressors=codec)

    def open(self, path: Path) -> dict[str, Any]:
        import zarr

        group = zarr.open_group(str(path), mode="r")
        return {name: group[name] for name in group.array_keys()}

    def index(self, path: Path) -> np.ndarray:
        return np.diff(self.open(path)["offsets"][:])

    def sample(self, handle: dict[str, Any], window: int, points: int | None) -> tuple[np.ndarray, ...]:
        start, stop = (int(n) for n in handle["offsets"][window : window + 2])
        run = run_of(np.random.default_rng(window), stop - start, points)
        first, last, _ = run.indices(stop - start)
        part = slice(start + first, start + last)
        hands = [handle[name][window] for name in handle if name.startswith("window_")]
        views = (handle["rgb"][window], handle["depth"][window], handle["query"][part])
        return *views, handle["displacement"][:, part], handle["pose9d"][window], *hands


class Mp4Parquet:
    """H.264 with a key frame every second frame, PNG-16 depth and tracks as Parquet rows, one row group per window."""

    name = "mp4 + Parquet"

    def write(self, path: Path, arrays: Arrays) -> None:
        import av
        import pyarrow as pa
        import pyarrow.parquet as pq

        path.mkdir()
        with av.open(str(path / "rgb.mp4"), "w") as file:
            stream = file.add_stream("libx264", rate=10, options={"crf": "18", "g": "2"})
            height, width = arrays["rgb"].shape[2:]
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            for rgb in arrays["rgb"]:
                image = np.ascontiguousarray(rgb.transpose(1, 2, 0))
                file.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            file.mux(stream.encode())
        pngs = [cv2.imencode(".png", depth.view(np.uint16))[1].tobytes() for depth in arrays["depth"]]
        pq.write_table(pa.table({"depth": pngs}), path / "depth.parquet", row_group_size=1, compression="none")
        windows = len(arrays["offsets"]) - 1
        parts = [slice(*arrays["offsets"][w : w + 2]) for w in range(windows)]
        columns = {"query": [arrays["query"][p].ravel() for p in parts], "pose9d": [p.ravel() for p in arrays["pose9d"]]}
        columns["displacement"] = [arrays["displacement"][:, p].ravel() for p in parts]
        columns |= {name: [row.ravel() for row in array] for name, array in arrays["hands"].items()}
        pq.write_table(pa.table(columns), path / "tracks.parquet", row_group_size=1, compression="zstd")

    def open(self, path: Path) -> tuple[Any, Any, Any]:
        import av
        import pyarrow.parquet as pq

        return av.open(str(path / "rgb.mp4")), pq.ParquetFile(path / "depth.parquet"), pq.ParquetFile(path / "tracks.parquet")

    def index(self, path: Path) -> np.ndarray:
        import pyarrow.parquet as pq

        meta = pq.ParquetFile(path / "tracks.parquet").metadata
        return np.array([meta.row_group(i).column(0).num_values // 3 for i in range(meta.num_row_groups)])

    def sample(self, handle: Any, window: int, points: int | None) -> tuple[np.ndarray, ...]:
        video, depths, tracks = handle
        stream = video.streams.video[0]
        wanted = round(window / 10 / stream.time_base)
        video.seek(wanted, stream=stream)
        rgb = next(frame for frame in video.decode(stream) if frame.pts >= wanted).to_ndarray(format="rgb24")
        png = depths.read_row_group(window)["depth"][0].as_py()
        depth = cv2.imdecode(np.frombuffer(io.BytesIO(png).read(), np.uint8), cv2.IMREAD_UNCHANGED)
        row = tracks.read_row_group(window)
        columns = [row[name].combine_chunks().values.to_numpy() for name in row.column_names]
        query = columns[row.column_names.index("query")].reshape(-1, 3)
        displacement = columns[row.column_names.index("displacement")].reshape(-1, len(query), 3)
        run = run_of(np.random.default_rng(window), len(query), points)
        return rgb, depth, query[run], displacement[:, run], *columns[1:]
