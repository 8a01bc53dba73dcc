"""The configuration: one typed tree, its commented face, and what one video's settings come to."""

from pathlib import Path

import pytest
import yaml

from stages.config_yaml import render_config
from stages.settings import changed_settings, config_model, deep_merge, known_keys, load_config, parse_config, preset_backends
from tests.blocks import blocks_of
from videolift.config import user_path
from videolift.errors import ConfigError, ExitCode
from videolift.stage_table import STAGES

FACE = Path(__file__).parents[2] / "config.yaml"


def described(model=None, prefix=""):
    model = model or config_model()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and hasattr(kind, "model_fields"):
            yield from described(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def test_config_yaml_is_the_trees_face():
    assert FACE.read_text() == render_config(), "run: python -m stages.config_yaml > config.yaml"


def test_config_yaml_says_the_defaults():
    assert load_config(FACE) == parse_config({})


def test_config_yaml_names_every_setting_and_explains_it():
    tree = yaml.safe_load(FACE.read_text())
    for key, field in described():
        inside = tree
        for part in key.split("."):
            inside = inside[part]
        assert field.description, key
        assert not field.description.endswith("."), key


def test_config_yaml_fits_a_screen():
    assert max(map(len, FACE.read_text().splitlines())) <= 132


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"vidoes": "x"}, "unknown setting vidoes: did you mean videos?"),
        ({"tracks": {"window_lenght": 3}}, "unknown setting tracks.window_lenght: did you mean tracks.window_length?"),
        ({"depth": {"sfm": {"feature": 3}}}, "unknown setting depth.sfm.feature: did you mean depth.sfm.features?"),
        ({"window_length": 3}, "unknown setting window_length: did you mean tracks.window_length?"),
        ({"shards": 4, "shard": 4}, "shard is 4 of 4 shards: they are counted from 0 to 3"),
        ({"qqqq": 3}, "unknown setting qqqq: see config.yaml for all of them"),
        ({"preset": "tpu"}, "preset is 'tpu': Input should be 'cpu', 'laptop', 'gpu' or 'permissive'"),
        ({"batch_size": 0}, "batch_size is 0: Input should be greater than or equal to 1"),
        ({"batch_size": "many"}, "batch_size is 'many': Input should be a valid integer"),
        ({"tracks": 5}, "tracks is 5: "),
        ({"create_h5": {"depth_min_m": 3}}, "depth_min_m is 3.0, must be below depth_max_m 2.5"),
        ({"required": ["feet"]}, "required.0 is 'feet': Input should be 'depth', 'masks', 'tracks' or 'hands'"),
        ({"overrides": {"a": {"tracks": {"strid": 2}}}}, "strid"),
        ({"overrides": {"a": {"track": {"stride": 2}}}}, "unknown setting overrides.a.track: did you mean tracks?"),
        ({"overrides": {"a": {"tracks": {"stride": 0}}}}, "stride"),
    ],
)
def test_a_mistake_is_named_with_its_value_and_what_is_allowed(tree, said):
    with pytest.raises(ConfigError) as error:
        parse_config(tree)
    assert said in str(error.value)
    assert error.value.exit_code is ExitCode.USAGE


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as error:
        parse_config({"vidoes": "x", "preset": "tpu"})
    assert len(str(error.value).splitlines()) == 2


def test_a_config_file_that_is_no_mapping_or_no_yaml_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    for text, said in (
        ("- 1\n", "expected a mapping of settings, found list"),
        ("a: [", "while parsing"),
        ("\t", "found character"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            load_config(path)
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml")


def test_an_empty_config_file_is_all_defaults(tmp_path):
    (tmp_path / "config.yaml").touch()
    assert load_config(tmp_path / "config.yaml") == parse_config({})


def test_the_command_line_changes_one_leaf_and_leaves_its_siblings(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("tracks: {window_length: 7, flow: {max_side_px: 100}}\n")
    config = load_config(path, {"tracks": {"flow": {"occlusion_px": 2}}, "preset": "gpu"})
    assert (config.tracks.window_length, config.tracks.flow.max_side_px, config.tracks.flow.occlusion_px) == (7, 100, 2.0)
    assert config.preset == "gpu"


def test_deep_merge_replaces_lists_and_leaves_its_arguments_alone():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert deep_merge(base, {"a": {"c": [3]}, "d": {"e": 2}}) == {"a": {"b": 1, "c": [3]}, "d": {"e": 2}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


@pytest.mark.parametrize("preset", ["cpu", "laptop", "gpu", "permissive"])
def test_the_preset_switches_all_backends_at_once(preset):
    blocks = blocks_of(preset=preset)
    assert {stage: block.backend for stage, block in blocks.items()} == {**preset_backends(preset), "masks": "none"}
    assert set(blocks) == set(STAGES)


def test_a_backend_by_name_beats_the_preset():
    assert blocks_of(preset="gpu", depth={"backend": "sfm"})["depth"].backend == "sfm"


def test_a_video_with_depth_takes_rgbd_unless_an_override_names_another():
    overrides, file = {"special": {"depth": {"backend": "moge"}}}, Path("depth.npz")
    assert blocks_of("a", depth_file=file, overrides=overrides)["depth"].backend == "rgbd"
    assert blocks_of("a", overrides=overrides)["depth"].backend == "sfm"
    assert blocks_of("special", depth_file=file, overrides=overrides)["depth"].backend == "moge"


def test_shares_of_splits_that_do_not_sum_to_one_are_refused_with_all_three():
    with pytest.raises(ConfigError, match=r"train, val and test are 0.9, 0.1 and 0.1: they must sum to 1"):
        parse_config({"statistics": {"splits": {"train": 0.9}}})


def test_overrides_match_ids_and_patterns_and_later_ones_win():
    overrides = {"day1__*": {"tracks": {"stride": 2, "window_length": 5}}, "day1__cup": {"tracks": {"stride": 3}}}
    names = ("day1__cup", "day1__pot", "day2__cup")
    found = {name: blocks_of(name, tracks={"points": 50}, overrides=overrides)["tracks"] for name in names}
    assert {name: (b.stride, b.window_length, b.points) for name, b in found.items()} == {
        "day1__cup": (3, 5, 50),
        "day1__pot": (2, 5, 50),
        "day2__cup": (1, 10, 50),
    }


def test_patterns_respect_the_case_of_ids():
    assert blocks_of("cup1", overrides={"CUP*": {"tracks": {"stride": 2}}})["tracks"].stride == 1


def test_packaging_takes_window_and_limits_from_the_run_unless_told_otherwise():
    block = blocks_of(tracks={"window_length": 6}, min_tier="D", required=["tracks"])["create_h5"]
    assert (block.window_length, block.stride, block.min_tier, tuple(block.required)) == (6, 1, "D", ("tracks",))
    own = blocks_of(min_tier="D", create_h5={"min_tier": "A", "window_length": 4})["create_h5"]
    assert (own.min_tier, own.window_length) == ("A", 4)


def test_a_packaging_window_set_by_an_overrides_tracks_block_follows_that_video():
    overrides = {"short*": {"tracks": {"window_length": 3}}}
    assert blocks_of("short1", overrides=overrides)["create_h5"].window_length == 3
    assert blocks_of("other", overrides=overrides)["create_h5"].window_length == 10


def test_the_seed_reaches_every_stage_and_a_stage_may_have_its_own():
    blocks = blocks_of(seed=4, tracks={"seed": 9})
    assert {stage: block.seed for stage, block in blocks.items()} == dict.fromkeys(STAGES, 4) | {"tracks": 9}


def test_settings_cannot_be_changed_after_parsing():
    config = parse_config({})
    with pytest.raises(ValueError, match="frozen"):
        config.tracks.stride = 4


def test_digest_depends_on_every_setting_and_on_nothing_else():
    assert parse_config({}).digest() == parse_config(yaml.safe_load(FACE.read_text())).digest()
    assert parse_config({"tracks": {"flow": {"occlusion_px": 0.81}}}).digest() != parse_config({}).digest()


def test_known_keys_reach_every_leaf():
    keys = set(known_keys(config_model()))
    assert {"videos", "tracks", "tracks.flow.max_side_px", "pool.margin"} <= keys


def test_settings_that_differ_are_named_and_paths_of_this_machine_are_not():
    config = parse_config({"videos": "/home/someone/videos", "output": "/home/someone/out", "tracks": {"window_length": 12}})
    assert changed_settings(config) == {"tracks.window_length": 12}


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"ingest": {"fps": float("inf")}}, "ingest.fps is inf"),
        ({"pool": {"margin": float("nan")}}, "pool.margin is nan"),
        ({"ingest": {"width": 1_000_000_000}}, "less than or equal to 8192"),
        ({"create_h5": {"size": 10**6}}, "less than or equal to 4096"),
    ],
)
def test_numbers_that_no_machine_can_hold_are_refused(tree, said):
    with pytest.raises(ConfigError, match=said):
        parse_config(tree)


def test_a_key_that_stands_twice_and_endless_brackets_are_refused_at_their_place(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("tracks:\n  stride: 1\n  stride: 2\n")
    with pytest.raises(ConfigError, match=r"'stride' stands twice.*\n.*line 3"):
        load_config(path)
    path.write_text("only: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigError, match="more than 32 levels"):
        load_config(path)


def test_a_home_that_nobody_has_is_named():
    with pytest.raises(ConfigError, match="~nosuchuser/x: this machine knows no such user"):
        user_path("~nosuchuser/x")
