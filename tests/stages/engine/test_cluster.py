"""What jobs ask a cluster for, and what a run refuses to guess."""

import stat
from pathlib import Path

import pytest
import yaml
from snakemake.resources import Resources
from snakemake.settings.types import ResourceSettings

from stages.engine import cluster
from stages.engine.costs.run_cost import PastWork, measure_past_work
from videolift.errors import ConfigError
from videolift.inputs.catalog import Video
from videolift.paths import Layout
from videolift.records.journal import Journal
from videolift.records.leases import Lease
from videolift.records.receipts import ArtifactRecord, Reason, Receipt
from videolift.records.runs import Entry

ROOT = Path(__file__).parents[3]


def batch(*sizes: int) -> list[Entry]:
    return [Entry(Video(f"v{i}", f"v{i}.mp4", bytes=size), "0000") for i, size in enumerate(sizes)]


def receipt(video: str, seconds: float, state="done") -> Receipt:
    artifact = ArtifactRecord(f"depth/{video}.h5", 4_000_000, 0, "0" * 64)
    reason = Reason("bad_input", "x", "y", "z") if state == "quarantined" else None
    return Receipt(video, "depth", state, "f", {}, {}, artifact=None if reason else artifact, seconds=seconds, reason=reason)


def test_minutes_cover_twice_what_such_videos_took():
    measured = PastWork((60.0, 180.0), seconds_per_byte=0.0, bytes=0.0)
    assert cluster.minutes(measured, batch(1, 1, 1)) == cluster.MIN_MINUTES + 2 * 3 * 2


def test_a_batch_of_long_videos_gets_more_minutes_than_one_of_short_ones():
    measured = PastWork((60.0,), seconds_per_byte=60 / 1000, bytes=0.0)
    assert cluster.minutes(measured, batch(100, 100)) == cluster.MIN_MINUTES + 4
    assert cluster.minutes(measured, batch(5000, 5000)) == cluster.MIN_MINUTES + 20


def test_a_job_that_works_on_several_videos_at_a_time_asks_for_less():
    measured = PastWork((600.0,), seconds_per_byte=0.0, bytes=0.0)
    assert cluster.minutes(measured, batch(*[1] * 8), workers=4) == cluster.MIN_MINUTES + 40
    assert cluster.minutes(measured, batch(1), workers=4) == cluster.MIN_MINUTES + 20, "one video keeps one worker busy"
    assert (
        cluster.sure_workers(8, on_card=False),
        cluster.sure_workers(8, on_card=True),
        cluster.sure_workers(1, on_card=False),
    ) == (
        4,
        1,
        1,
    )


def test_limits_of_partitions_are_read_in_minutes(slurm):
    slurm("short*|30:00\nlong|2-03:00:00\nhour|1:00:00\nfree|infinite")
    assert cluster.time_limits() == {"short": 30, None: 30, "long": 51 * 60, "hour": 60}


def test_a_rule_goes_to_its_own_partition_before_the_default_one():
    asked = cluster.AskedOfCluster({"slurm_partition": "gpu"}, {"ingest_batch": {"slurm_partition": "cpu", "mem_mb": 1}})
    assert (asked.partition("ingest_batch"), asked.partition("depth_batch")) == ("cpu", "gpu")
    assert asked.names == {"slurm_partition", "mem_mb"}
    assert cluster.AskedOfCluster({}, {}).partition("depth_batch") is None


def test_a_partition_named_on_the_command_line_is_known_by_its_name():
    """Snakemake hands a text over as a function; taken for its value, no limit of any partition was ever found."""
    default = Resources.parse(["slurm_partition=short"], allow_expressions=True, defaults="full")
    own = {"depth_batch": Resources.parse(["slurm_partition=cards"], allow_expressions=True)}
    asked = cluster.AskedOfCluster.from_snakemake(ResourceSettings(default_resources=default, overwrite_resources=own))
    assert (asked.partition("ingest_batch"), asked.partition("depth_batch")) == ("short", "cards")


def test_before_anything_was_measured_a_job_gets_four_hours():
    assert cluster.minutes(None, batch(1)) == 240


def test_memory_grows_with_cores_cards_and_attempts():
    assert cluster.memory_mb(cores=8, cards=0, attempt=1) == 16_000
    assert cluster.memory_mb(cores=8, cards=0, attempt=2) == 32_000
    assert cluster.memory_mb(cores=1, cards=2, attempt=1) == 64_000


def test_past_work_is_measured_from_what_was_done_and_not_from_what_failed(tmp_path):
    layout = Layout(tmp_path)
    assert measure_past_work(layout, "depth", {}) is None
    with Journal.take_over(layout.journals("depth"), "0000") as journal:
        for one in (receipt("a", 10.0), receipt("b", 30.0), receipt("c", 0.1, "quarantined")):
            journal.write(one)
    found = measure_past_work(layout, "depth", {"a": 100, "b": 300})
    assert found == PastWork((10.0, 30.0), 0.1, 4e6)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Makes ``sinfo``, ``scontrol`` and ``squeue`` say what a cluster would."""

    def says(partitions: str = "", enforced: str = "", queued: str = "") -> None:
        for name, text in (("sinfo", partitions), ("scontrol", f"AccountingStorageEnforce = {enforced}"), ("squeue", queued)):
            (tmp_path / name).write_text(f"#!/bin/sh\necho '{text}'\n")
            (tmp_path / name).chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return says


def test_a_cluster_with_a_default_partition_and_no_accounts_need_not_be_told(slurm):
    slurm("lab*", "none")
    cluster.refuse_unnamed(frozenset())


def test_a_missing_partition_or_account_is_named_with_what_to_type(slurm):
    slurm("gpu", "associations,limits")
    with pytest.raises(ConfigError, match=r"slurm_partition and slurm_account: add --default-resources slurm_partition=\.\.\."):
        cluster.refuse_unnamed(frozenset())
    with pytest.raises(ConfigError, match="requires slurm_account:"):
        cluster.refuse_unnamed(frozenset({"slurm_partition"}))
    cluster.refuse_unnamed(frozenset({"slurm_partition", "slurm_account"}))


def test_away_from_a_cluster_the_profile_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no sinfo here"):
        cluster.refuse_unnamed(frozenset())


def test_a_job_queues_behind_the_one_that_works_on_its_batch(slurm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "32")
    path = tmp_path / "leases" / "depth" / "0007"
    slurm(queued="32")
    assert cluster.turn(path) == ""
    with Lease.acquire(path, wait_s=0):
        assert cluster.turn(path) == " --dependency=afterany:32"
        assert "batch depth/0007 is being worked on by SLURM job 32" in capsys.readouterr().err
        slurm(queued="")
        assert cluster.turn(path) == "", "the job has ended, its lease has not been taken over yet"


def test_the_profile_for_slurm_repeats_what_makes_reruns_right():
    here, there = (yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text()) for name in ("default", "slurm"))
    repeated = {key: value for key, value in here.items() if key != "resources"}
    assert repeated.items() <= there.items()
    assert there["slurm-status-command"] == "squeue"
    assert "default-resources" not in there, "they would be replaced by, or replace, the user's own"
