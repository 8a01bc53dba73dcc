"""Episodes from a table, and cut at rest: on scripted scenes, whose rests are known, with a detector's noise and gaps."""

from __future__ import annotations

import numpy as np
import pytest

from stages.sample.cameras import PERIOD_S
from stages.sample.scene import build_scene
from videolift.errors import ConfigError
from videolift.reader.policies.episodes import Episode, episodes_between_rests, episodes_of_rows, read_episode_table
from videolift.reader.policies.state import track_of

FPS = 10.0


def scripted(seed, actions=5):
    """Points of a hand that picks and puts back with rests between, as measured, and the middles of the rests in seconds."""
    rng = np.random.default_rng(seed)
    rests = rng.uniform(0.9, 2.0, actions - 1)
    script, rest_middles, now = [], [], 0.0
    for number in range(actions):
        script.append(np.arange(number * PERIOD_S, (number + 1) * PERIOD_S, 1 / FPS))
        now += len(script[-1]) / FPS
        if number < actions - 1:
            script.append(np.full(round(rests[number] * FPS), (number + 1) * PERIOD_S))
            rest_middles.append(now + len(script[-1]) / FPS / 2)
            now += len(script[-1]) / FPS
    scene = build_scene("handheld", np.concatenate(script), seed)
    frames = len(scene.T_world_wrist)
    T, joints = np.full((frames, 2, 4, 4), np.nan), np.full((frames, 2, 21, 3), np.nan)
    T[:, 1], joints[:, 1] = scene.T_world_wrist, scene.joints_world
    T[:, 1, :3, 3] += rng.normal(0, 0.004, (frames, 3))
    joints[:, 1] += rng.normal(0, 0.006, (frames, 21, 3))
    lost = rng.random(frames) < 0.1
    T[lost], joints[lost] = np.nan, np.nan
    return track_of(T, np.tile(np.eye(4), (frames, 1, 1)), joints).points_world, np.array(rest_middles)


def test_cuts_at_rest_lie_where_the_script_rests():
    hits = found = wanted = 0
    for seed in range(100, 108):
        points, truth = scripted(seed)
        episodes = episodes_between_rests(points, np.arange(len(points)) / FPS, FPS)
        cuts = np.array([episode.start for episode in episodes[1:]]) / FPS
        assert episodes[0].start == 0
        assert episodes[-1].stop == len(points)
        matched = [np.abs(cuts - t).min(initial=np.inf) <= 0.3 for t in truth]
        hits, found, wanted = hits + sum(matched), found + len(cuts), wanted + len(truth)
    assert 2 * hits / (found + wanted) >= 0.8


def test_a_hand_that_never_moves_or_is_never_seen_is_one_episode():
    for points in (np.zeros((40, 2, 6, 3)), np.full((40, 2, 6, 3), np.nan)):
        assert episodes_between_rests(points, np.arange(40) / FPS, FPS) == [Episode(0, 40)]


def test_an_episode_ends_with_its_shot():
    seconds = np.concatenate([np.arange(20), np.arange(50, 70)]) / FPS
    assert episodes_between_rests(np.zeros((40, 2, 6, 3)), seconds, FPS) == [Episode(0, 20), Episode(20, 40)]


def test_rows_of_a_table_become_episodes_with_their_text(tmp_path):
    table = tmp_path / "episodes.csv"
    table.write_text("video,start,end,text,note\nclip,0,0.5,reach,x\nclip,0.4,1.2,lift,\nother,3,4,drop,\n")
    rows = read_episode_table(table)
    seconds = np.arange(12) / FPS
    assert episodes_of_rows(rows, "clip", seconds) == [Episode(0, 5, "reach"), Episode(4, 12, "lift")]
    assert episodes_of_rows(rows, "third", seconds) == []
    with pytest.raises(ConfigError, match=r"no frame of other lies between 3.0 and 4.0 s: it has 0 to 1.1 s"):
        episodes_of_rows(rows, "other", seconds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,start\nclip,0\n", "no column end"),
        ("video,start,end\nclip,1,1\n", "line 2: the episode is from 1.0 to 1.0"),
        ("video,start,end\nclip,a,1\n", "line 2: start and end must be seconds"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_episode_table(tmp_path / "t.csv")
