"""Images against labels: what would have to be wrong with the labels so that they explain the images?

Each check compares the labels as they are with *hypotheses*: the same labels inverted, late by a frame, mirrored, scaled. Labels
are suspect where one of these explains the images markedly better, and the hypothesis is the name of the fault. Labels that explain
the images badly without any hypothesis doing better are named by their part alone. What is caught, and what nobody can see in
images, is in docs/format.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.dataset.verify.evidence import SHIFTS, Evidence, median_residual_px
from videolift.dataset.verify.file_checks import LOOK, MEASURED_SCALES, FileUnderCheck, Finding
from videolift.dataset.verify.hand_evidence import hand_faults
from videolift.dataset.verify.track_evidence import track_faults
from videolift.geometry import Float, invert_pose, rotation_angle

Fault = tuple[str, str]
"""Kind of a fault and the figures that speak for it."""
BETTER, BETTER_PX = 0.6, 0.05
"""A hypothesis is believed where it leaves at most this share of the residual, and at least so many pixels less."""
MAX_RESIDUAL_SHARE = 0.3
"""Of the motion that is seen: labels that miss more of it explain nothing."""
MIN_MOTION_PX = 0.5
_SCALES = (0.001, 0.1, 0.5, 0.7, 0.77, 0.85, 0.92, 1.09, 1.18, 1.3, 1.43, 2.0, 10.0, 1000.0)
"""0.001, 0.1 and their inverses are units taken for others; between them steps that a residual can tell apart, both ways."""
_FOCALS = (0.7, 0.8, 0.87, 0.93, 1.07, 1.15, 1.25, 1.43)
_CENTRES_PX = (-16, -8, -4, 4, 8, 16)
_SHARP_EDGES, _BETTER_EDGES = 1.8, 1.03
"""Depth edges lie on image edges: gradient there over the mean one. Below it, depth has no edges to judge by."""
_MIN_EDGE_PX = 50
# These numbers and those in the checks below are held by tests/videolift/dataset/verify/planted.py: every fault of the table in
# docs/format.md is named on rendered clips, and clean ones stay silent.


def check_images(file: FileUnderCheck) -> Iterator[Finding]:
    """Labels that contradict the images of a file in which nothing else is wrong."""
    evidence = Evidence(file)
    faults: list[Fault] = [*sequence_faults(evidence)]
    has_camera = file.has_all("camera/T_camera_world", "depth")
    # Between frames of unknown pose there is no step that images could contradict.
    if has_camera and np.isfinite(evidence.E).all():
        faults += camera_faults(evidence)
        if file.scale != "assumed":  # a plane that was assumed moves with the camera alone, and has no edges of things
            faults += depth_faults(evidence)
        if file.has("tracks/query") and file.offsets[-1]:
            faults += track_faults(evidence)
    if file.has("hands/valid"):
        faults += hand_faults(evidence, measured=has_camera and file.scale in MEASURED_SCALES)

    # A fault that several parts show alike lies in the images and not in them.
    alike = {"mirrored": {"depth mirrored", "poses with x reversed"}, "upside down": {"depth upside down", "poses with y reversed"}}
    for frames in ("one frame", "two frames"):
        for late, early in (("late", "early"), ("early", "late")):
            alike[f"{early} by {frames}"] = {f"{part} {late} by {frames}" for part in ("depth", "poses", "hands", "points")}
    for what, parts in alike.items():
        present = {kind for kind, _ in faults} & parts
        if len(present) > 1:  # one part alone is at fault itself
            faults = [(f"images {what}", f"{', '.join(sorted(present))}: all alike")] + [f for f in faults if f[0] not in parts]
    first_words = {kind.partition(" ")[0] for kind, _ in faults}
    if first_words & {"images", "cut", "depth", "inverse"}:  # hands and points are judged by depth and images
        faults = [fault for fault in faults if fault[0] not in _FOLLOWS_FROM_DEPTH | _FOLLOWS_FROM_POSES]
    elif first_words & {"camera", "poses", "rotation", "rotations", "translation", "translations", "focal", "principal"}:
        faults = [fault for fault in faults if fault[0] not in _FOLLOWS_FROM_POSES]
    for kind, text in dict(faults).items():  # both hands may say the same: once
        yield file.finding(f"images: {kind}", text, LOOK)


_FOLLOWS_FROM_POSES = {"points", "hidden points called visible", "visible points called hidden"}
_FOLLOWS_FROM_DEPTH = {
    *(
        "hands mirrored",
        "hands upside down",
        "keypoints shifted",
        "keypoints with x and y swapped",
        "hands and depth differ in scale",
    ),
    *("keypoints shifted", "points off the depth"),
}


def camera_faults(evidence: Evidence) -> Iterator[Fault]:
    """Poses and intrinsics against the motion of what stands still."""
    stated = median_residual_px(evidence, _steps(evidence.E))
    motion = float(np.median([pair.motion_px for pair in evidence.pairs])) if evidence.pairs else 0.0
    # Below a twentieth of a pixel nothing can do markedly better, and ratios of such residuals are noise.
    if not np.isfinite(stated) or stated < BETTER_PX:
        return
    frozen = _frozen(evidence, motion)
    # First: against poses that stand still many hypotheses do better, and none of them is the fault.
    if frozen and stated > MAX_RESIDUAL_SHARE * motion:
        yield frozen, f"the images move by {motion:.1f} px in a pair of frames, the poses miss {stated:.1f} px of it"
        return
    tried = {}
    # Without motion every hypothesis explains the images alike.
    if motion >= MIN_MOTION_PX:
        tried = dict(_camera_hypotheses(evidence))
    good = {name: px for name, px in tried.items() if px < BETTER * stated and px < min(stated - BETTER_PX, 0.3 + 0.2 * motion)}
    if good:
        best = min(good, key=lambda name: good[name])
        yield best.partition(", by")[0], f"{best}: {good[best]:.2f} px remain instead of {stated:.2f}, of {motion:.1f} px motion"
    elif stated > max(MAX_RESIDUAL_SHARE * motion, 0.5):
        yield "camera", f"poses and depth miss the motion of the images by {stated:.2f} px, of {motion:.1f} px"


def _frozen(evidence: Evidence, motion_px: float) -> str | None:
    """Which part of the poses stands still although the images say that it moves."""
    E, steps = evidence.E, [step for step in evidence.steps if step is not None]
    if motion_px < MIN_MOTION_PX or len(steps) < 3:
        return None
    turn = float(np.median(rotation_angle(np.stack(steps)[:, :3, :3], np.eye(3))))
    # Motion over the scene's depth is what shows in pixels, and has no unit that could be wrong.
    middle = float(np.median(evidence.z[evidence.z > 0]))
    move = float(np.median(np.linalg.norm(np.stack(steps)[:, :3, 3], axis=1))) / middle
    turns = float(rotation_angle(E[:, :3, :3], E[:1, :3, :3]).max()) > 1e-3
    centres = invert_pose(E)[:, :3, 3]
    moves = float(np.abs(centres - centres[:1]).max()) / middle > 1e-3
    if not turns and not moves:
        return "camera frozen"
    if not turns and turn > 5e-3:
        return "rotation frozen"
    return "translation frozen" if not moves and move > 5e-3 else None


def _steps(E: Float) -> Callable[[int, int], Float]:
    return lambda first, second: np.asarray(E[second] @ invert_pose(E[first]))


def _shifted(array: NDArray[np.generic], frames: int) -> Float:
    """The array as it would be if it were late by ``frames``: taken from so many frames ahead; the ends are repeated."""
    at = np.clip(np.arange(len(array)) + frames, 0, len(array) - 1)
    return np.asarray(array[at])


def _camera_hypotheses(evidence: Evidence) -> Iterator[tuple[str, float]]:
    """How poses, intrinsics and depth may be wrong, and by how many pixels they would miss the images if they were right."""
    E, K, z, (width, height) = evidence.E, evidence.K, evidence.z, evidence.file.size_px
    poses = {"poses inverted": invert_pose(E), "rotations transposed": E.copy(), "translations reversed": E.copy()}
    poses["rotations transposed"][:, :3, :3] = np.swapaxes(E[:, :3, :3], 1, 2)
    poses["translations reversed"][:, :3, 3] *= -1.0
    for name, axes in (("y and z", (1, -1, -1)), ("x", (-1, 1, 1)), ("y", (1, -1, 1)), ("z", (1, 1, -1))):
        D = np.diag([*axes, 1.0])
        poses[f"poses with {name} reversed"] = D @ E @ D
    swap = np.eye(4)[[1, 0, 2, 3]]
    poses["poses with x and y swapped"] = swap @ E @ swap
    poses["poses backward in time"] = E[::-1]
    poses |= {f"poses {name}": _shifted(E, frames) for frames, name in SHIFTS}
    for factor in _SCALES:
        scaled = E.copy()
        scaled[:, :3, 3] *= factor
        poses[f"camera path and depth differ in scale, by {factor:g}"] = scaled
    for name, changed in poses.items():
        yield name, median_residual_px(evidence, _steps(changed))

    steps = _steps(E)
    for factor in _FOCALS:
        other = K.copy()
        other[[0, 1], [0, 1]] *= factor
        yield f"focal length, by {factor:g}", median_residual_px(evidence, steps, K=other)
    for axis, name in ((0, "x"), (1, "y")):
        for shift in _CENTRES_PX:
            other = K.copy()
            other[axis, 2] += shift
            yield f"principal point in {name}, by {shift} px", median_residual_px(evidence, steps, K=other)

    # Made one after the other: each is as large as the depth of the whole video.
    middle = float(np.median(z[z > 0])) if (z > 0).any() else 1.0
    yield "depth mirrored", median_residual_px(evidence, steps, z[:, :, ::-1])
    yield "depth upside down", median_residual_px(evidence, steps, z[:, ::-1])
    if width == height:
        yield "depth transposed", median_residual_px(evidence, steps, z.transpose(0, 2, 1))
    for offset in middle * np.array([-0.4, -0.3, -0.25, -0.2, -0.1, 0.1, 0.2, 0.25, 0.3, 0.4]):
        depth = np.where(z > 0, np.maximum(z + offset, 1e-3), 0)
        yield f"depth with an offset, by {offset:.2f}", median_residual_px(evidence, steps, depth)
    for number in (1.0, middle, middle**2):
        depth = np.where(z > 0, number / np.maximum(z, 1e-3), 0)
        yield f"inverse depth, by {number:g}", median_residual_px(evidence, steps, depth)
    v, u = np.mgrid[:height, :width]
    ray = np.sqrt(((u - K[0, 2]) / K[0, 0]) ** 2 + ((v - K[1, 2]) / K[1, 1]) ** 2 + 1)
    yield "depth along the ray", median_residual_px(evidence, steps, z / ray)


def depth_faults(evidence: Evidence) -> Iterator[Fault]:
    """Edges of the depth against edges of the images; depth that stands still while they move."""
    z = evidence.z
    stale = np.array([np.array_equal(z[t], z[t - 1]) for t in range(1, len(z))])
    # Depth of a scene that stands still may well repeat itself, so only frames in which something moved count.
    differences = (cv2.absdiff(evidence.grey[t - 1], evidence.grey[t]) for t in range(1, len(z)))
    changed = np.array([bool((difference > 20).mean() > 0.01) for difference in differences])
    if len(stale) and (stale & changed).mean() > 0.05:
        yield "depth frozen", f"{(stale & changed).mean():.0%} of the depth maps are those of the frame before"
        return
    identity = _edge_agreement(evidence, z)
    if np.isnan(identity):
        return
    tried: dict[str, float] = {}
    # Several have one name: each way and size of a shift stands for the same fault.
    for name, other in _edge_hypotheses(z):
        tried[name] = max(np.nan_to_num(_edge_agreement(evidence, other)), tried.get(name, 0.0))
    best = max(tried, key=lambda name: tried[name])
    if tried[best] > max(_SHARP_EDGES, _BETTER_EDGES * identity):
        yield best, f"{tried[best]:.2f} times the mean gradient at the edges of the depth, instead of {identity:.2f}"


def _edge_hypotheses(z: Float) -> Iterator[tuple[str, Float]]:
    yield "depth mirrored", z[:, :, ::-1]
    yield "depth upside down", z[:, ::-1]
    if z.shape[1] == z.shape[2]:
        yield "depth transposed", z.transpose(0, 2, 1)
    yield "depth turned by half", z[:, ::-1, ::-1]
    yield "depth backward in time", z[::-1]
    for frames, name in SHIFTS:
        yield f"depth {name}", _shifted(z, frames)
    for scale in (0.9, 0.95, 1.05, 1.1):
        centre = (z.shape[1] - 1) / 2
        M = np.array([[scale, 0, centre * (1 - scale)], [0, scale, centre * (1 - scale)]])
        size = (z.shape[2], z.shape[1])
        # The nearest pixel: a mean over an edge would be a depth that nothing has.
        zoomed = [cv2.warpAffine(image.astype(np.float32), M, size, flags=cv2.INTER_NEAREST) for image in z]
        yield "depth zoomed", np.asarray(np.stack(zoomed), np.float32)
    for px in (-8, -4, -2, -1, 1, 2, 4, 8):
        yield "depth shifted", np.roll(z, px, 2)
        yield "depth shifted", np.roll(z, px, 1)


def _edge_agreement(evidence: Evidence, z: Float) -> float:
    """Mean image gradient at depth edges over the mean gradient, averaged over frames; NaN where most of them have none."""
    # Some twenty frames tell as much as all.
    values, looked = [], range(2, evidence.frames - 2, max(1, evidence.frames // 20))
    for t in looked:
        with np.errstate(invalid="ignore", divide="ignore"):
            log = np.log(np.where(z[t] > 0, z[t], np.nan))
            # A step of 6 % between two valid depths is an edge, on both sides of it.
            across, down = np.abs(np.diff(log, axis=1)) > 0.06, np.abs(np.diff(log, axis=0)) > 0.06
        edges = np.zeros(z[t].shape, bool)
        edges[:, 1:] |= across
        edges[:, :-1] |= across
        edges[1:] |= down
        edges[:-1] |= down
        if edges.sum() > _MIN_EDGE_PX:
            gradient = evidence.gradient(t)
            values.append(gradient[edges].mean() / max(float(gradient.mean()), 1e-6))
    # In one frame or two of sparse depth an edge falls onto one of the image by chance.
    return float(np.mean(values)) if len(values) > max(2, len(looked) / 2) else float("nan")


def sequence_faults(evidence: Evidence) -> Iterator[Fault]:
    """Images that stand still, jump, or come at another rate than said."""
    file, frames = evidence.file, evidence.frames
    same = np.array([np.array_equal(evidence.rgb[t], evidence.rgb[t - 1]) for t in range(1, frames)])
    if len(same) and same.mean() > 0.05 and file.has("depth"):
        z = evidence.z
        # An image that repeats together with its depth is of a scene in which nothing moves.
        moved = np.array([not np.array_equal(z[t], z[t - 1]) for t in range(1, frames)])
        if (same & moved).mean() > 0.05:
            yield "images frozen", f"{(same & moved).mean():.0%} of the images are those of the frame before, their depth is not"
    # Over all frames, not between two: real video has frames that come late, and makes up for them.
    times = file.array("timestamps", slice(0, frames))
    rate = float(times[-1] - times[0]) / (frames - 1) * file.attribute_of_type("fps", float) if frames > 1 else 1.0
    if not 0.9 < rate < 1.1:
        yield "rate", f"frames lie {rate:.2f} of what fps says apart"
    followed = []  # share of the pixels that can be followed from each frame to the next
    for t in range(frames - 1):
        _, good = evidence.follow(t, t + 1, evidence.grid)
        followed.append(float(good.mean()))
    for t, around in sudden_steps(followed):
        if file.shot[t] == file.shot[t + 1]:
            text = f"{followed[t]:.0%} of the pixels can be followed into it, {around:.0%} around it"
            yield "cut", f"frame {t + 1} shows another scene: {text}"
            break


def sudden_steps(followed: Sequence[float]) -> Iterator[tuple[int, float]]:
    """Steps that far fewer pixels can be followed over than over those around, with the share there.

    Hands that fill the picture and hurry are hard to follow for many frames in a row; a cut is one step.
    """
    for t, share in enumerate(followed):
        around = float(np.median([*followed[max(t - 3, 0) : t], *followed[t + 1 : t + 4], share]))
        if around > 0.5 and share < min(0.3, 0.4 * around):
            yield t, around
