"""How far off hands are on real clips, against tracked truth or a depth camera.

    python -m benchmarks.hands_real FOLDER       # half a minute of CPU per ten seconds of video

FOLDER holds videos; an npz beside a video, of the same name, says what is known of it:

- tracked truth: ``K`` (3, 3) of the whole picture, ``world_from_camera`` (T, 4, 4), ``world_from_joint`` (T, J, 4, 4) and ``names``
  (J) with leftHand and rightHand (wrists; fingers along +x of a left, -x of a right hand) and leftIndexFingerKnuckle to
  rightLittleFingerKnuckle, one row per video frame, metres;
- a depth camera: ``depths`` (T, h, w), ``intrinsics`` (3, 3), one row per video frame;
- and NAME.sides.csv (frame,x,y,side; pixels of the clip, frames of the clip) tells sides apart that were labelled by hand.

Truth is off the picture as well: a tracker's hand may be larger than the one that is seen, or beside it. The last figure of a line
says how far its knuckles lie from those of the detector, in hands: at 0.1 to 0.15 both are on the hand, from 0.2 on look at the
video before believing the rest. Wrists are measured twice more, as paths of cameras are after an alignment: after one shift of a
clip's truth in the camera, the same for both hands and every frame, and with each hand's distances multiplied by one factor. Both
take a constant error of ours along, so they say what is left besides a truth beside the picture and a person's unknown size, not
how right wrists are.

Clips are taken whole (``ingest.fit: pad``) and at 10 frames per second; with tracked truth K is given and depth is not.
"""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.ingest import ingest
from benchmarks.timing import parser
from stages.backend import Inputs
from stages.hands.mediapipe import BACKEND
from stages.hands.wrist import hand_size_px
from stages.ingest import IngestSettings
from stages.models.environments import build
from stages.registry import ROOT
from stages.settings import parse_config, settings_for
from videolift.artifacts import METHODS, SIDES, Clip, Depth, DepthWriter, Hands
from videolift.geometry import invert_pose, project, rotation_angle
from videolift.inputs.framing import Framing
from videolift.inputs.video import Video
from videolift.pool import cpu_device

Constant = Literal["none", "side", "hand"]
CPU = cpu_device()


@dataclass
class SideErrors:
    """Errors of one side in one clip, over the frames in which its wrist is in view."""

    clip: str
    side: str
    in_view: int
    in_crop: int
    found: int
    wrong: int
    found_m: np.ndarray
    """(n, 3) wrists in the camera."""
    true_m: np.ndarray
    turns: Rotation | None
    knuckles_off: np.ndarray
    """Of the truth from the detector's, as a share of the hand's size."""
    shift_m: np.ndarray
    """(3) median way from the true wrists to those found, over both hands of the clip."""

    @property
    def depth_ratio(self) -> np.ndarray:
        return np.asarray(self.found_m[:, 2] / self.true_m[:, 2])


def clip_of(video: Path, folder: Path, K: np.ndarray | None, fit: str) -> Clip:
    """The clip of a video, with the camera of its whole picture where it is known."""
    writer = ingest(video, folder / f"{video.stem}.h5", IngestSettings(fit=fit))
    if K is not None:
        framing = Framing.from_attrs(writer.attributes)
        writer.describe(K_given=framing.map_intrinsics(K).tolist())
    return Clip(writer.publish().path)


def hands_of(backend: BACKEND, clip: Clip, depth: Depth | None, folder: Path) -> tuple[Hands, tuple[str, ...]]:
    writer = backend.writer(folder / f"{clip.path.stem}.hands.h5")
    given = Inputs(Video(clip.path.stem, str(clip.path)), clip=clip, depth=depth)
    quality = backend.process(given, writer, shrink=1.0, progress=lambda done, total: None)
    return Hands(writer.publish().path), quality.checks


def tracked_wrists(truth: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """``T_camera_wrist`` (T, 2, 4, 4) of the truth, in the axes of our hand frame."""
    names = [str(name) for name in truth["names"]]
    hands = truth["world_from_joint"][rows][:, [names.index("leftHand"), names.index("rightHand")]]
    T = invert_pose(truth["world_from_camera"][rows])[:, None] @ hands
    T[:, 0, :3, 1:3] *= -1  # a tracker's left hand has the back and the thumb the other way
    return np.asarray(T)


def tracked_knuckles(truth: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Index to little finger's knuckles (T, 2, 4, 3) of the truth, in the camera."""
    names = [str(name) for name in truth["names"]]
    which = [[names.index(f"{side}{finger}FingerKnuckle") for finger in ("Index", "Middle", "Ring", "Little")] for side in SIDES]
    T = invert_pose(truth["world_from_camera"][rows])[:, None, None] @ truth["world_from_joint"][rows][:, which]
    return np.asarray(T[..., :3, 3])


def against_truth(clip: Clip, hands: Hands, true: np.ndarray, knuckles: np.ndarray) -> list[SideErrors]:
    K, out = np.array(hands.attrs["K"]), []
    uv_true = project(true[:, :, :3, 3], K)
    inside = np.asarray(
        np.isfinite(uv_true).all(-1) & (uv_true >= -0.5).all(-1) & (uv_true < np.array([clip.width, clip.height]) - 0.5).all(-1)
    )
    uv = project(hands.T_camera_wrist[:, :, :3, 3], K)
    for i, side in enumerate(SIDES):
        valid = hands.valid[:, i] & inside[:, i]
        own, other = (np.linalg.norm(uv[:, i] - uv_true[:, j], axis=-1) for j in (i, 1 - i))
        right = valid & ~(other < own)
        T, G = hands.T_camera_wrist[right, i].astype(np.float64), true[right, i]
        turns = Rotation.from_matrix(np.swapaxes(T[:, :3, :3], 1, 2) @ G[:, :3, :3]) if right.any() else None
        seen_px = hands.keypoints_px[right, i].astype(np.float64)
        apart_px = np.linalg.norm(seen_px[:, [5, 9, 13, 17]] - project(knuckles[right, i], K), axis=-1).mean(-1)
        crop = np.abs(uv_true[:, i] - np.array([clip.width - 1, clip.height - 1]) / 2).max(-1) < min(clip.width, clip.height) / 2
        counts = int(inside[:, i].sum()), int((inside[:, i] & crop).sum()), int(right.sum()), int((valid & ~right).sum())
        knuckles_off = apart_px / hand_size_px(seen_px)
        out.append(SideErrors(clip.path.stem, side, *counts, T[:, :3, 3], G[:, :3, 3], turns, knuckles_off, np.zeros(3)))
    every = np.concatenate([e.found_m - e.true_m for e in out])
    shift = np.median(every, axis=0) if len(every) else np.zeros(3)
    return [replace(e, shift_m=shift) for e in out]


def turned(errors: list[SideErrors], constant: Constant) -> np.ndarray:
    """Angles in degrees of all rotations from the truth, after no turn, one per side (axes may differ by it), or one per hand."""
    turns: dict[tuple[str, ...], list[Rotation]] = {}
    for e in errors:
        if e.turns is not None:
            turns.setdefault((e.side,) if constant == "side" else (e.side, e.clip), []).append(e.turns)
    out = [np.full(0, np.nan)]
    for every in map(Rotation.concatenate, turns.values()):
        out.append(np.degrees(every.magnitude() if constant == "none" else (_usual(every).inv() * every).magnitude()))
    return np.concatenate(out)


def _usual(turns: Rotation) -> Rotation:
    middle = turns.mean()
    for _ in range(10):  # the mean of those that agree: a hand taken for its mirror image must not turn the axes
        away = (turns * middle.inv()).magnitude()
        middle = turns[away <= 2 * np.median(away) + 1e-9].mean()
    return middle


def line(name: str, errors: list[SideErrors]) -> str:
    in_view, found = sum(e.in_view for e in errors), sum(e.found for e in errors)
    wrong = sum(e.wrong for e in errors)
    if not found:
        return f"{name:30} {in_view:4} in view, none found, {wrong} wrong side"
    ratio, knuckles = (np.concatenate([getattr(e, field) for e in errors]) for field in ("depth_ratio", "knuckles_off"))
    seen = [e for e in errors if e.found]
    plain, shifted, scaled = (
        _two(1000 * np.linalg.norm(np.concatenate(off_m), axis=-1))
        for off_m in (
            [e.found_m - e.true_m for e in seen],
            [e.found_m - e.true_m - e.shift_m for e in seen],
            [e.found_m / np.median(e.depth_ratio) - e.true_m for e in seen],
        )
    )
    none, by_side, by_hand = (_two(turned(errors, constant)) for constant in get_args(Constant))
    return (
        f"{name:30} {in_view:4} in view, {found / in_view:4.0%} found, {wrong} wrong side,"
        f" {1 - sum(e.in_crop for e in errors) / in_view:4.0%} outside the square;"
        f" wrist {plain} mm (one shift per clip {shifted}, one distance factor per hand {scaled}),"
        f" depth {np.median(ratio) - 1:+.0%} ({_two(ratio, 10, 90)}),"
        f" rotation {none} degrees (one turn per side {by_side}, per hand {by_hand});"
        f" knuckles of the truth {np.median(knuckles):.2f} hands off"
    )


def _two(values: np.ndarray, *percentiles: int) -> str:
    low, high = np.percentile(values, percentiles or (50, 90))
    return f"{low:.0f} / {high:.0f}" if high > 3 else f"{low:.2f} to {high:.2f}"


def with_depth_camera(backend: BACKEND, video: Path, truth: dict[str, np.ndarray], folder: Path) -> None:
    clip = clip_of(video, folder, None, "auto")
    framing, rows = Framing.from_attrs(clip.attrs), rows_of(clip, len(truth["depths"]))
    K = np.asarray(truth["intrinsics"], np.float64).reshape(-1, 3, 3)[0]
    size = truth["depths"].shape[2], truth["depths"].shape[1]
    writer = DepthWriter(folder / f"{video.stem}.depth.h5")
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    writer.append_frames(np.stack([framing.map_nearest(truth["depths"][k]) for k in rows]), poses, np.ones(len(rows), bool))
    writer.put(K=framing.map_intrinsics(K, size))
    writer.declare(backend="camera", tier="A", scale="metric", pose="static", intrinsics="given")
    hands, checks = hands_of(backend, clip, Depth(writer.publish().path), folder)
    to_packaged = 256 / min(clip.width, clip.height)
    for i, side in enumerate(SIDES):
        own = hands.valid[:, i] & ~hands.interpolated[:, i]
        frames = np.flatnonzero(own)
        R = hands.T_camera_wrist[frames, i, :3, :3]
        jumps = np.degrees(rotation_angle(R[:-1], R[1:]))[np.diff(frames) == 1]
        off = np.linalg.norm(
            project(hands.T_camera_wrist[frames, i, :3, 3], hands.attrs["K"]) - hands.keypoints_px[frames, i, 0], axis=-1
        )
        by_depth = float((hands.method[frames, i] == METHODS.index("depth")).mean()) if len(frames) else 0.0
        print(
            f"{video.stem:20} {side:5} {len(frames)} of {len(clip)} frames measured, {by_depth:.0%} by depth; rotation jumps"
            f" {_two(jumps)} degrees per frame; wrist {np.median(off) * to_packaged:.1f} px of 256 from its keypoint"
        )
    for check in checks:
        print(f"{'':20} {check}")


def against_labels(hands: Hands, clip: Clip, labels: Path) -> None:
    right = wrong = unknown = missing = 0
    with labels.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            k, at = int(row["frame"]), np.array([float(row["x"]), float(row["y"])])
            centre = hands.keypoints_px[k].mean(1)
            off = np.linalg.norm(centre - at, axis=-1)
            if not np.isfinite(off).any() or np.nanmin(off) > 0.15 * clip.height:
                missing += 1
                continue
            i = int(np.nanargmin(off))
            if not hands.side_known[k, i]:
                unknown += 1
            elif SIDES[i] == row["side"]:
                right += 1
            else:
                wrong += 1
    print(f"{clip.path.stem:20} sides: {right} right, {wrong} wrong, {unknown} marked unknown, {missing} not seen")


def rows_of(clip: Clip, rows: int) -> np.ndarray:
    """Rows of the truth that belong to the clip's frames."""
    fps = float(clip.attrs["source"]["fps_measured"])
    return np.asarray(
        np.clip(np.rint((clip.pts_seconds - float(clip.attrs["source"]["clock_start_s"])) * fps).astype(int), 0, rows - 1)
    )


def main() -> None:
    command = parser(__doc__)
    command.add_argument("folder", type=Path)
    command.add_argument("--fit", default="pad", help="of ingest, for clips with tracked truth")
    options = command.parse_args()
    build("mediapipe", envs_dir=ROOT / "thirdparty" / "envs")
    backend = BACKEND(settings_for(parse_config({}), Video("clip", ""))["hands"], root=ROOT)
    backend.load(CPU)
    errors: list[SideErrors] = []
    try:
        for video in sorted(options.folder.glob("*.mp4")):
            truth = dict(np.load(video.with_suffix(".npz"))) if video.with_suffix(".npz").exists() else {}
            labels = video.with_suffix(".sides.csv")
            with tempfile.TemporaryDirectory() as folder:
                if "world_from_joint" in truth:
                    clip = clip_of(video, Path(folder), truth["K"], options.fit)
                    hands, _ = hands_of(backend, clip, None, Path(folder))
                    rows = rows_of(clip, len(truth["world_from_camera"]))
                    own = against_truth(clip, hands, tracked_wrists(truth, rows), tracked_knuckles(truth, rows))
                    errors += own
                    print(*(line(f"{e.clip} {e.side}", [e]) for e in own), sep="\n", flush=True)
                elif "depths" in truth:
                    with_depth_camera(backend, video, truth, Path(folder))
                if labels.exists():
                    clip = clip_of(video, Path(folder), None, "auto")
                    against_labels(hands_of(backend, clip, None, Path(folder))[0], clip, labels)
    finally:
        backend.close()
    if errors:
        print(line("all", errors))


if __name__ == "__main__":
    main()
