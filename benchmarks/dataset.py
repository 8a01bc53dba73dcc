"""What the packaged dataset costs: packaging, size, opening, indexing, random samples, beside other layouts.

    python benchmarks/dataset.py                      # the rendered sample with sensor noise; about a minute
    python benchmarks/dataset.py --video CLIP.mp4     # with the pictures of a video of yours

Times are CPU milliseconds: medians of 7 repeats in random order within one run; ratios have their 90 % bootstrap interval. Peers
that are not installed (zarr, pyarrow, torch for the loader) are left out and said so. Files are warm in the page cache.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from benchmarks.dataset_stores import Arrays, Mp4Parquet, Npy, Ours, Store, Y2r, Zarr
from benchmarks.timing import Taken, cpu_ms, in_turns, parser, ratio
from stages.sample import render
from stages.sample.artifacts import write_truth_artifacts
from videolift.artifacts import Clip, Depth, Hands, Tracks
from videolift.dataset.layout import HAND_WINDOW_FIELDS, PackagedView
from videolift.dataset.package import Packaging, Sources, package
from videolift.dataset.profiles import PROFILES
from videolift.dataset.windows import to_uvd
from videolift.dataset.writer import DatasetWriter

SAMPLES, LENGTH = 40, 10


def make_artifacts(folder: Path, frames: int, video: Path | None) -> None:
    """Artifacts as real backends leave them: noisy pictures, depth to about a millimetre, jittering tracks."""
    rng, truth = np.random.default_rng(0), render("orbit", frames=frames)
    rgb = np.clip(truth.rgb + rng.normal(scale=4, size=truth.rgb.shape), 0, 255).astype(np.uint8)
    if video is not None:
        rgb = _pictures(video, frames, *truth.rgb.shape[1:3])
    depth = np.where(truth.depth_m > 0, truth.depth_m + rng.normal(scale=1e-3, size=truth.depth_m.shape), 0)
    write_truth_artifacts(folder, "clip", replace(truth, rgb=rgb, depth_m=depth.astype(np.float32)), grid_px=7)


def _pictures(video: Path, frames: int, height: int, width: int) -> np.ndarray:
    capture = cv2.VideoCapture(str(video))
    found: list[np.ndarray] = []
    while len(found) < frames and (read := capture.read())[0]:
        found.append(cv2.resize(read[1][..., ::-1], (width, height), interpolation=cv2.INTER_AREA))
    return np.stack([found[i % len(found)] for i in range(frames)])


def sources(folder: Path) -> Sources:
    return Sources(
        Clip(folder / "frames/clip.h5"),
        Depth(folder / "depth/clip.h5"),
        Tracks(folder / "tracks_3d/clip.h5"),
        Hands(folder / "hand_poses/clip.h5"),
    )


def pack(parts: Sources, path: Path, profile: str = "default") -> Path:
    out = DatasetWriter(path)
    package(parts, Packaging(profile=profile), out, lambda done, total: None)
    return out.publish().path


def _picture(file: Path) -> np.ndarray:
    picture = cv2.imread(str(file))
    assert picture is not None, f"{file} cannot be read"
    return picture


class PngClip:
    """The predecessor's input instead of ours: a PNG per frame."""

    def __init__(self, clip: Clip, folder: Path) -> None:
        self.width, self.height, self.fps, self.attrs, self.path = clip.width, clip.height, clip.fps, clip.attrs, clip.path
        self.pts_seconds, self.files = clip.pts_seconds, [folder / f"{t:05d}.png" for t in range(len(clip))]
        for file, image in zip(self.files, clip[0 : len(clip)], strict=True):
            cv2.imwrite(str(file), image[..., ::-1])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, frames: slice) -> np.ndarray:
        return np.stack([_picture(file)[..., ::-1] for file in self.files[frames]])


class NpzDepth:
    """Likewise: one compressed npz for the video, read whole at once."""

    def __init__(self, depth: Depth, path: Path) -> None:
        self.K, self.T_camera_world, self.pose_valid = depth.K, depth.T_camera_world, depth.pose_valid
        self.tier, self.scale, self.attrs, self.path = depth.tier, depth.scale, depth.attrs, path
        np.savez_compressed(path, depths=depth[0 : len(depth)])
        self._loaded: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pose_valid)

    def __getitem__(self, frames: slice) -> np.ndarray:
        if self._loaded is None:
            self._loaded = np.load(self.path)["depths"]
        return self._loaded[frames]


def pack_as_y2r(png: PngClip, depth: NpzDepth, tracks: Tracks, path: Path, size: int = 256) -> None:
    """The predecessor's packaging from its description: the whole video in memory, float32 statistics; no hands, no torch.load."""
    view = PackagedView.of((png.width, png.height), size)
    K, square = view.intrinsics(depth.K), slice(view.left_px, view.left_px + view.width_px)
    rows = slice(view.top_px, view.top_px + view.height_px)
    images = [cv2.cvtColor(_picture(file), cv2.COLOR_BGR2RGB)[rows, square] for file in png.files]
    video = np.stack([cv2.resize(i, (size, size), interpolation=cv2.INTER_LANCZOS4) for i in images]).transpose(0, 3, 1, 2)
    near = [
        cv2.resize(d[rows, square], (size, size), interpolation=cv2.INTER_NEAREST)
        for d in np.load(depth.path)["depths"].astype("f4")
    ]
    z = np.stack([np.where(d > 0, np.clip(d, 0.1, 2.5), 0) for d in near]).astype(np.float32)
    moved, seen = [], [d[d > 0] for d in z]
    with h5py.File(path, "w") as file:
        file["root/video"], file["root/depth"], file["root/intrinsics"] = video, z, K.astype(np.float32)
        for w in range(len(tracks)):
            window = tracks[w]
            uvd = np.stack([to_uvd(step, K, size) for step in window.xyz_cam0[:LENGTH]])
            uvd = uvd[:, ((uvd[..., :2] >= 0) & (uvd[..., :2] <= 1)).all((0, 2)) & (uvd[..., 2] > 0).all(0)]
            group = file.create_group(f"root/tracks/frame_{window.start:04d}")
            group["query_coords"], group["displacements"] = uvd[0], uvd - uvd[:1]
            moved.append(uvd - uvd[:1])
            seen.append(uvd[0, :, 2])
    for values in (np.concatenate([m.reshape(-1, 3) for m in moved]), np.concatenate(seen)[:, None]):
        values.mean(axis=0), values.std(axis=0)


def table(title: str, unit: str, times: dict[str, Taken], base: str, *, speed: bool = True) -> None:
    print(f"\n{title}\n\n| | {unit} | {'speed' if speed else 'time'} against {base} (90 %) |\n|---|---|---|")
    for name, values in times.items():
        low, value, high = ratio(times[base], values) if speed else ratio(values, times[base])
        print(f"| {name} | {np.median(values):.3f} | {value:.2f} [{low:.2f}, {high:.2f}] |")


def packaging(folder: Path, frames: int) -> None:
    """Ours from our artifacts, ours and the predecessor's from PNG and npz."""
    (folder / "png").mkdir()
    parts = sources(folder)
    assert parts.depth is not None
    assert parts.tracks is not None
    tracks = parts.tracks
    png, npz = PngClip(parts.clip, folder / "png"), NpzDepth(parts.depth, folder / "depth.npz")
    from_png: Any = {"clip": png, "depth": npz}  # they read like ours, and are not ours

    def from_theirs() -> None:
        npz._loaded = None
        pack(replace(parts, **from_png, hands=None), folder / "from_png.hdf5")

    tasks: dict[str, Callable[[], object]] = {
        "y2r from PNG + npz": lambda: pack_as_y2r(png, npz, tracks, folder / "y2r_timed.hdf5"),
        "videolift from its artifacts": lambda: pack(replace(parts, hands=None), folder / "timed.hdf5"),
        "videolift from PNG + npz": from_theirs,
        "videolift from its artifacts, with hands": lambda: pack(parts, folder / "timed.hdf5"),
    }
    table("Packaging", "CPU ms per frame", cpu_ms(tasks, frames), "y2r from PNG + npz")


def arrays_of(path: Path) -> Arrays:
    with h5py.File(path, locking=False) as file:
        arrays: Arrays = {name: file[name][...] for name in ("rgb", "depth")}
        arrays |= {name: file[f"tracks/{name}"][...] for name in ("offsets", "query", "displacement", "pose9d")}
        arrays["intrinsics"] = file["camera/intrinsics"][...]
        arrays["hands"] = {name: file[f"hands/{name}"][...] for name in HAND_WINDOW_FIELDS}
    return arrays


def shared_bytes(path: Path) -> int:
    """Bytes of those arrays that the predecessor stores too; ours holds more (visibility, joints, keypoints, statistics ...)."""
    names = ("rgb", "rgb_jpeg/bytes", "depth", "tracks/query", "tracks/displacement", "tracks/pose9d", "tracks/offsets")
    with h5py.File(path, locking=False) as file:
        wanted = [file[n] for n in (*names, "rgb_jpeg/offsets", *(f"hands/{h}" for h in HAND_WINDOW_FIELDS)) if n in file]
        return sum(data.id.get_storage_size() for data in wanted)


def layouts(folder: Path) -> None:
    """Size, opening, indexing and random samples of one video in every layout."""
    parts = sources(folder)
    paths: dict[str, tuple[Store | Ours, Path]] = {}
    for profile in PROFILES:
        paths[f"videolift {profile}"] = Ours(profile), pack(parts, folder / f"{profile}.hdf5", profile)
    arrays = arrays_of(folder / "default.hdf5")
    others: list[Store] = [Y2r(), Npy()]
    others += [store for store, needs in ((Zarr(), "zarr"), (Mp4Parquet(), "pyarrow")) if importlib.util.find_spec(needs)]
    print(f"\nPeers here: {', '.join(store.name for store in others)}")
    for i, store in enumerate(others):
        store.write(folder / f"other{i}", arrays)
        paths[store.name] = store, folder / f"other{i}"
    base = Y2r.name
    size = {
        name: sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file()) for name, (_, path) in paths.items()
    }
    shared = {name: shared_bytes(path) if name.startswith("videolift") else size[name] for name, (_, path) in paths.items()}
    print("\n| | MB | of y2r | arrays both hold, of y2r |\n|---|---|---|---|")
    for name in paths:
        print(f"| {name} | {size[name] / 1e6:.2f} | {size[name] / size[base]:.3f} | {shared[name] / shared[base]:.3f} |")
    index: dict[str, Callable[[], object]] = {name: partial(store.index, path) for name, (store, path) in paths.items()}
    table("Index of a video", "CPU ms", cpu_ms(index, 1), base)
    handles = {name: store.open(path) for name, (store, path) in paths.items()}
    for points, title in ((None, "Random sample, every point of the window"), (64, "Random sample, 64 points")):
        rng = np.random.default_rng(0)
        windows = [int(w) for w in rng.integers(0, len(arrays["offsets"]) - 1, SAMPLES)]

        def draw(store: Store | Ours, handle: Any, points: int | None = points, windows: list[int] = windows) -> None:
            for window in windows:
                store.sample(handle, window, points)

        tasks: dict[str, Callable[[], object]] = {name: partial(draw, store, handles[name]) for name, (store, _) in paths.items()}
        table(title, "CPU ms per sample", cpu_ms(tasks, SAMPLES), base)
    if importlib.util.find_spec("torch"):
        loaders(
            {name: paths[name] for name in ("videolift default", "videolift fast", "videolift tiny", base)},
            len(arrays["offsets"]) - 1,
        )


def loaders(paths: dict[str, tuple[Store | Ours, Path]], windows: int) -> None:
    """Samples per second of wall time through torch's DataLoader; wall times of a busy machine: read the ratios."""
    import warnings

    from torch.utils.data import DataLoader, Dataset

    warnings.filterwarnings(
        "ignore", "The given NumPy array is not writable"
    )  # samples share what a file keeps; the copy is torch's

    class Samples(Dataset):  # type: ignore[misc]  # torch is not in the environment that checks types
        def __init__(self, store: Store | Ours, path: Path) -> None:
            self.store, self.path = store, path
            self.handle: Any = None

        def __len__(self) -> int:
            return 2 * windows

        def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
            self.handle = self.handle or self.store.open(self.path)
            return self.store.sample(self.handle, index % windows, 64)

    for workers in (0, 2):
        ways: dict[str, Callable[[], float]] = {}
        for name, (store, path) in paths.items():
            loader = DataLoader(Samples(store, path), batch_size=32, shuffle=True, num_workers=workers)

            def read_all(loader: Any = loader) -> float:
                # Wall time: the workers' CPU time is not this process's.
                began = time.monotonic()
                for _ in loader:
                    pass
                return 1000 * (time.monotonic() - began) / (2 * windows)

            ways[name] = read_all
        measured = in_turns(ways)
        table(f"DataLoader, {workers} workers, 64 points", "wall ms per sample", measured, Y2r.name)


def main() -> None:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("--frames", type=int, default=60)
    command.add_argument("--video", type=Path)
    command.add_argument("--only-layouts", action="store_true", help="leave packaging out")
    options = command.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_artifacts(folder, options.frames, options.video)
        if not options.only_layouts:
            packaging(folder, options.frames)
        layouts(folder)


if __name__ == "__main__":
    main()
