"""What depth by structure from motion and poses on sensor depth are worth, against rendered truth, and what they cost.

    python -m benchmarks.depth                      # about a minute of CPU
    python -m benchmarks.depth --clip handheld --seed 1
    python -m benchmarks.depth --video clip.mp4     # a video of yours: no truth, only what the backend says of itself

The clips are rendered at 512 x 384, 60 frames. `moving marked valid` counts pixels whose surface moves by more than 3 mm within a
second; a held object at rest is rightly measured. CPU seconds are those of this process, all threads.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.ingest import ingest
from benchmarks.timing import parser
from stages.backend import Inputs
from stages.depth import DepthSettings
from stages.depth.rgbd import RgbdDepth
from stages.depth.sfm import SfmDepth
from stages.sample import Truth, render
from tests.stages.depth.truth import moving_now
from videolift.artifacts import Clip, ClipWriter, Depth, DepthWriter
from videolift.evaluation import depth_errors, focal_error, marked_valid, pose_errors
from videolift.inputs.framing import Framing
from videolift.inputs.video import Video
from videolift.pool import cpu_device

CPU = cpu_device(2, threads=2)


def clip_of(truth: Truth, folder: Path) -> Clip:
    """The rendered frames as ingest would store them, without a codec in between."""
    size = (truth.rgb.shape[2], truth.rgb.shape[1])
    writer = ClipWriter(folder / "clip.h5")
    writer.append_frames(truth.rgb, truth.pts_seconds)
    writer.describe(fps=10.0, framing=Framing(size, size, (0, 0), size).to_attrs())
    return Clip(writer.publish().path)


def run(backend: type[SfmDepth] | type[RgbdDepth], video: Video, clip: Clip, folder: Path) -> Depth:
    """Runs a backend and prints what it says of itself."""
    worker, out = backend(DepthSettings(seed=0), root=Path()), DepthWriter(folder / f"{backend.name}.h5")
    worker.load(CPU)
    started = time.process_time()
    quality = worker.process(Inputs(video, clip=clip), out, shrink=1.0, progress=lambda done, total: None)
    print(f"  {backend.name}: {time.process_time() - started:.1f} CPU s for {len(clip)} frames")
    for check in quality.checks:
        print(f"  {check}")
    return Depth(out.publish().path)


def compare(depth: Depth, truth: Truth) -> None:
    """Prints errors against the truth."""
    poses = pose_errors(depth.T_camera_world, truth.T_camera_world, scale_known=depth.scale == "metric")
    turned = np.degrees(poses.rpe_rad)
    print(f"  ATE {1e3 * poses.ate:.2f} mm, from frame to frame {1e3 * poses.rpe:.2f} mm and {turned:.3f} degrees")
    errors = depth_errors(depth[:], truth.depth_m, align=depth.scale == "arbitrary")
    moving = np.stack([moving_now(truth, k) for k in range(0, len(truth.rgb), 3)])
    print(f"  focal length {focal_error(depth.K, truth.K):+.2%}, AbsRel {errors.abs_rel:.4f} (median {errors.median_rel:.4f}),")
    print(f"  valid {errors.valid_share:.1%}, moving marked valid {marked_valid(depth[:][::3, ::4, ::4], moving):.2%}")


def of_truth(camera: str, seed: int, folder: Path) -> None:
    """sfm on a rendered camera, then poses followed on its true depth."""
    truth = render("orbit", camera=camera, seed=seed)  # type: ignore[arg-type]
    clip, given = clip_of(truth, folder), folder / "depth.npz"
    np.savez(given, depths=truth.depth_m, intrinsics=truth.K)
    print(f"{camera}, seed {seed}")
    for backend in (SfmDepth, RgbdDepth):
        depth = run(backend, Video("clip", str(given), depth=given), clip, folder)
        if depth.tier in "AC" and depth.attrs["pose"] == "sfm":
            compare(depth, truth)


def of_video(path: Path, folder: Path) -> None:
    """sfm on a video file."""
    clip = ingest(path, folder / "clip.h5").publish().path
    print(path.name)
    depth = run(SfmDepth, Video("clip", str(path)), Clip(clip), folder)
    about = {key: depth.attrs[key] for key in ("tier", "scale", "pose", "intrinsics", "quality")}
    print(f"  {about}")


def main() -> None:
    """See the module."""
    command = parser(__doc__)
    command.add_argument("--clip", choices=("orbit", "handheld", "tripod"), action="append", help="camera; default all three")
    command.add_argument("--seed", type=int, default=0, help="of the scene and the camera's shake")
    command.add_argument("--video", type=Path, action="append", default=[], help="a video file instead")
    arguments = command.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for path in arguments.video:
            of_video(path, Path(folder))
        for camera in [] if arguments.video else arguments.clip or ("orbit", "handheld", "tripod"):
            of_truth(camera, arguments.seed, Path(folder))


if __name__ == "__main__":
    main()
