"""Which detection is which hand: tracks through time, and their sides.

A track is continued only where there is no doubt who continues it: where two hands meet, or one vanishes behind the other, tracks
end and new ones begin. Then all tracks of a video get their sides at once, by what their frames say, where their arms come from,
what happens at the same time (two hands have two sides) and what was there before. Shared by every hands backend; knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from videolift.geometry import Float

SAME_HAND = 0.5
"""Two detections in one frame whose keypoints lie within this share of the hand's size are one hand."""
LINK_REACH = 1.5
"""A hand moves by at most this many of its sizes between frames that are linked."""
LINK_GAP = 5
"""Frames without a detection that a track survives."""
CLEARLY_NEARER = 0.5
"""A track continues with a detection only if no other pair of theirs is nearer than its distance over this."""

_JOIN_FRAMES = 15
"""After so many frames nothing tells any more that what appears is the hand that left."""
_JOIN_WEIGHT = 6.0
"""Weight of being where a hand was just before, in frames of full belief; falls with distance and time."""
_MAX_VOTE = 8.0
"""A detector can be wrong about a hand for as long as it is held still: beyond so many frames' worth its votes count no more."""
# As much as a frame's own label: both end at 1.
_ARM_WEIGHT = 1.0
_TWO_HANDS = 0.7
"""Nearer than this, in sizes, two detections of one frame may be one hand seen twice, badly."""
_SAME_SIDE_COST = 4.0
"""Per frame in which two tracks of one side exist at once."""
_LEFT_OUT_COST = 1.0
"""Per detection that is neither of the two hands."""
_MIN_CERTAINTY = 0.1
"""Of a group of tracks that hang together, the belief per detection below which its sides are not known."""
# Five tracks that all hang together have 3^5 = 243 histories, of which none is dropped.
_BEAM = 512
_LEFT, _RIGHT, _NEITHER = 0, 1, 2


@dataclass(frozen=True)
class Detection:
    """One hand in one frame, as a detector reports it.

    Attributes:
        frame: index in the clip.
        keypoints_px: (21, 2); of a detector that has none the corners of its box (4, 2).
        score: 0 to 1.
        right: 0 to 1, the detector's belief that this is a right hand, in a camera's true (not mirrored) image.
        spread: how far several looks at it disagree, as a share of its size; NaN after one look.
        side_known: False where nothing tells which of the two hands it is.
    """

    frame: int
    keypoints_px: Float
    score: float
    right: float
    spread: float = float("nan")
    side_known: bool = True

    @property
    def centre_px(self) -> Float:
        """Mean keypoint (2)."""
        return np.asarray(self.keypoints_px.mean(0))

    @property
    def size_px(self) -> float:
        """Longer side of the box around the keypoints."""
        return float(np.ptp(self.keypoints_px, axis=0).max())

    @property
    def arm(self) -> float:
        """-1 to 1: how far the forearm comes from the image's left (-1) or right (1); 0 for a box."""
        if len(self.keypoints_px) != 21:
            return 0.0
        to_wrist = self.keypoints_px[0] - self.keypoints_px[[5, 9, 13, 17]].mean(0)
        return float(to_wrist[0] / max(np.linalg.norm(to_wrist), 1.0))


Track = list[Detection]


def without_duplicates(detections: Sequence[Detection]) -> list[Detection]:
    """Of detections in one frame that are the same hand (seen whole and in tiles), the first; the caller puts the best first."""
    # Every detection is compared with those already kept, not with all: of a chain of near ones the ends may be two hands.
    kept: list[Detection] = []
    for new in detections:
        apart = [float(np.linalg.norm(new.keypoints_px - old.keypoints_px, axis=1).mean()) for old in kept]
        if all(px / max(new.size_px, old.size_px, 1.0) > SAME_HAND for px, old in zip(apart, kept, strict=True)):
            kept.append(new)
    return kept


def link(detections: Sequence[Detection]) -> list[Track]:
    """Tracks: detections of one hand through time, each in order of frames, ended wherever it is not clear who continues."""
    tracks: list[Track] = []
    alive: list[Track] = []
    by_frame: dict[int, list[Detection]] = {}
    # By frame, since detections of one frame compete with each other.
    for detection in detections:
        by_frame.setdefault(detection.frame, []).append(detection)
    for frame in sorted(by_frame):
        here = by_frame[frame]
        # A hand that was away for longer may come back as the other one.
        alive = [track for track in alive if frame - track[-1].frame <= LINK_GAP + 1]
        apart = np.array([[_apart(track, d) for d in here] for track in alive]).reshape(len(alive), len(here))
        continued = set()
        for i, j in zip(*np.nonzero(apart <= LINK_REACH), strict=True):
            others = np.concatenate([np.delete(apart[i], j), np.delete(apart[:, j], i)])
            if not (others < apart[i, j] / CLEARLY_NEARER).any():
                alive[i].append(here[j])
                continued.add(int(j))
        new = [[d] for j, d in enumerate(here) if j not in continued]
        tracks += new
        # A track near to a detection that went to another one ends here: two hands have met, and it might go on with the wrong one.
        doubtful = {i for i, track in enumerate(alive) if track[-1].frame < frame and (apart[i] <= LINK_REACH).any()}
        alive = [track for i, track in enumerate(alive) if i not in doubtful] + new
    return tracks


def assign_sides(tracks: Sequence[Track], min_frames: float = 1, *, along_arms: bool = False) -> tuple[Track, Track]:
    """Detections of the left and of the right hand, at most one per frame and side; those whose side nothing tells are marked.

    Every track votes with its frames, weighted by score, because a single frame's label is often wrong; where the arms come from
    tells the sides apart as far as it agrees with the votes over the whole video. Two tracks at once are two sides, a track that
    begins where one has ended is the same hand. Of three hands the least sure is left out.

    Args:
        tracks: of `link`.
        min_frames: tracks that follow each other and have fewer frames than this in all are taken for chance.
        along_arms: the camera is said to look along the arms, so that the left one comes from the left.
    """
    ordered = sorted(tracks, key=lambda t: (t[0].frame, tuple(t[0].centre_px)))
    every = [d for track in ordered for d in track]
    belief = np.array([d.score * (2 * d.right - 1) for d in every])
    arms = np.array([d.arm for d in every])
    scale = np.sqrt((belief**2).sum() * (arms**2).sum())
    # Seen along the arms (> 0) the left one comes from the left; face to face (< 0) it is the other way round.
    agreement = float(belief @ arms / scale) if scale > 0 else 0.0
    from_left, from_right = (float(belief[these] @ arms[these]) for these in (arms < 0, arms > 0))
    # Labels that agree for one arm and not for the other tell nothing: a hand that lies still may be taken for the other one
    # through a whole clip (seen on a tracked one), and would turn the meaning of both arms round.
    if along_arms and from_left * from_right < 0:
        agreement = 1.0
    votes = []  # for a right hand, in frames of full belief; negative for a left one
    for track in ordered:
        own = sum(d.score * (2 * d.right - 1) for d in track)
        by_arm = _ARM_WEIGHT * agreement * sum(d.arm for d in track)
        votes.append(float(np.clip(own, -_MAX_VOTE, _MAX_VOTE) + by_arm))
    bonds = _bonds(ordered)
    labels = _best_labels(ordered, votes, bonds)
    one_hand = _groups(len(ordered), [pair for pair, bond in bonds.items() if bond >= 1.0 and labels[pair[0]] == labels[pair[1]]])
    frames = {group: sum(len(t) for t, g in zip(ordered, one_hand, strict=True) if g == group) for group in set(one_hand)}
    labels = [label if frames[group] >= min_frames else _NEITHER for label, group in zip(labels, one_hand, strict=True)]
    # A side is known where the votes say so, for groups that hang together as a whole, and for each track by what ties it to them.
    strong = [pair for pair, bond in bonds.items() if abs(bond) >= 1.0 and _NEITHER not in (labels[pair[0]], labels[pair[1]])]
    group_of = _groups(len(ordered), strong)
    # What speaks for the side that was chosen.
    signed = [vote if label == _RIGHT else -vote for vote, label in zip(votes, labels, strict=True)]
    belief_in: dict[int, float] = {}
    size: dict[int, int] = {}
    for i, track in enumerate(ordered):
        belief_in[group_of[i]] = belief_in.get(group_of[i], 0.0) + signed[i]
        size[group_of[i]] = size.get(group_of[i], 0) + len(track)
    # A track without votes of its own takes them from those it is tied to.
    tied = list(signed)
    for (i, j), bond in bonds.items():
        agrees = (labels[i] == labels[j]) == (bond > 0)
        for k in (i, j):
            tied[k] += abs(bond) if agrees else -abs(bond)
    known = [belief_in[group_of[i]] >= _MIN_CERTAINTY * size[group_of[i]] and tied[i] > 0 for i in range(len(ordered))]
    sides: tuple[dict[int, Detection], dict[int, Detection]] = ({}, {})
    for i in sorted(range(len(ordered)), key=lambda i: -abs(votes[i])):
        if labels[i] != _NEITHER:
            side = sides[labels[i]]
            side.update((d.frame, replace(d, side_known=known[i])) for d in ordered[i] if d.frame not in side)
    left, right = ([side[frame] for frame in sorted(side)] for side in sides)
    return left, right


def _bonds(tracks: Sequence[Track]) -> dict[tuple[int, int], float]:
    """For pairs (i < j) of tracks what speaks for one hand (positive) or for two (negative)."""
    bonds: dict[tuple[int, int], float] = {}
    for j, later in enumerate(tracks):
        by_frame = {d.frame: d for d in later}
        for i, earlier in enumerate(tracks[:j]):
            if later[0].frame - earlier[-1].frame > _JOIN_FRAMES:
                continue
            pairs = [(d, by_frame[d.frame]) for d in earlier if d.frame in by_frame]
            # Far apart at the same time they are two hands, hence two sides.
            together = sum(_apart([a], b) > _TWO_HANDS for a, b in pairs)
            if pairs:
                bonds[i, j] = -_SAME_SIDE_COST * together
            elif earlier[-1].frame < later[0].frame:
                gap = later[0].frame - earlier[-1].frame
                bonds[i, j] = _JOIN_WEIGHT * float(np.exp(-(_apart(earlier, later[0]) ** 2) - gap / LINK_GAP))
    return bonds


def _best_labels(tracks: Sequence[Track], votes: Sequence[float], bonds: dict[tuple[int, int], float]) -> list[int]:
    """Left, right or neither per track, at the least cost over the whole video: a sweep over time, the cheapest histories kept."""
    near: list[list[int]] = [[] for _ in tracks]
    last_use = list(range(len(tracks)))
    for i, j in bonds:
        near[j].append(i)
        last_use[i] = max(last_use[i], j)
    histories: list[tuple[float, list[int]]] = [(0.0, [])]
    for j, track in enumerate(tracks):
        best: dict[tuple[int, ...], tuple[float, list[int]]] = {}
        alive = [i for i in range(j + 1) if last_use[i] > j]
        for cost, labels in histories:
            for label in (_RIGHT, _LEFT, _NEITHER):
                against = max(0.0, -votes[j] if label == _RIGHT else votes[j])
                grown = cost + (abs(votes[j]) + _LEFT_OUT_COST * len(track) if label == _NEITHER else against)
                # Equal sides of two hands break a bond, and so do different sides of one; a track that is left out breaks none.
                bound = [(bonds[i, j], labels[i]) for i in near[j] if label != _NEITHER and labels[i] != _NEITHER]
                grown += sum(abs(bond) for bond, side in bound if (side == label) == (bond < 0))
                now = [*labels, label]
                # histories that agree on all tracks which later ones still ask about differ in cost alone: one of them is enough
                key = tuple(now[i] for i in alive)
                if key not in best or grown < best[key][0]:
                    best[key] = (grown, now)
        # Bounded, or a long video with a crowd would take exponential time.
        histories = sorted(best.values(), key=lambda history: history[0])[:_BEAM]
    return histories[0][1]


def _groups(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Number of the group that each of ``count`` tracks is in, when those of each pair are in one."""
    group = list(range(count))
    for i, j in pairs:
        old, new = group[j], group[i]
        group = [new if g == old else g for g in group]
    return group


def _apart(track: Track, new: Detection) -> float:
    """Distance of a detection from where a track's last ones lead, in hand sizes; from where it was, if that is nearer."""
    old = track[-1]
    size = max(old.size_px, new.size_px, 1.0)
    stayed = float(np.linalg.norm(old.centre_px - new.centre_px)) / size
    # After a gap the last velocity says nothing any more.
    if len(track) < 2 or new.frame - old.frame > 2:
        return stayed
    velocity = (old.centre_px - track[-2].centre_px) / (old.frame - track[-2].frame)
    moved = float(np.linalg.norm(old.centre_px + velocity * (new.frame - old.frame) - new.centre_px)) / size
    return min(stayed, moved)
