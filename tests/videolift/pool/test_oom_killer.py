"""The kernel's OOM killer for real, where a control group with a memory limit can be made."""

from pathlib import Path

import pytest

from tests.videolift.pool.conftest import item, plain

LIMIT_MIB = 150


@pytest.fixture
def small_group(tmp_path):
    """A control group of 150 MiB below our own."""
    paths = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    if "memory" in paths:
        parent, limit = Path("/sys/fs/cgroup/memory") / paths["memory"].lstrip("/"), "memory.limit_in_bytes"
    else:
        parent, limit = Path("/sys/fs/cgroup") / paths.get("", "/").lstrip("/"), "memory.max"
    group = parent / f"pool-test-{tmp_path.name}"
    try:
        group.mkdir()
        (group / limit).write_text(str(LIMIT_MIB << 20))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield group
    group.rmdir()


def test_the_kernels_oom_killer_is_out_of_memory_and_not_a_crash(bench, small_group):
    step = ["join_cgroup_then_allocate", str(small_group), 3 * LIMIT_MIB]
    report = bench.run([item("large", step), *plain(3)], told={"shrinks": (1.0, 0.5)})
    assert {key: outcome.kind for key, outcome in report.outcomes.items()} == {
        "large": "oom",
        **dict.fromkeys(("plain0", "plain1", "plain2"), "done"),
    }
    assert {event["cause"] for event in bench.events.of("died")} == {"oom_kill"}
    assert "out-of-memory killer" in report.outcomes["large"].text
