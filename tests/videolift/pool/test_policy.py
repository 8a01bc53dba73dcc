import dataclasses
import errno

import pytest

from videolift.errors import BackendUnavailable, BadInput, Crash, OutOfMemory, Transient
from videolift.pool.decisions.policy import (
    Circumstances,
    Final,
    Pending,
    Retry,
    RetryRules,
    Task,
    WorkerDeath,
    in_context,
    judge_failure,
)
from videolift.pool.interface import Item
from videolift.pool.items import WorkQueue
from videolift.pool.workers.faults import describe
from videolift.pool.workers.messages import AttemptFailed

RULES = RetryRules(attempts=3, allow_shrink=True, transient_retries=2, backoff_s=1.0)
SEEN = Circumstances(serial=7, shrinks=(1.0, 0.5), device="Card", total_bytes=100, now=50.0)
ALONE = dataclasses.replace(SEEN, alone=True, fresh=True, peak_bytes=90)
TASK = Task(Item("a"))
OOM = AttemptFailed("oom", "OutOfMemoryError", "CUDA out of memory")


def follow(task, *failures, seen=SEEN, rules=RULES):
    """The verdict after the last failure, each retried as the one before says."""
    for failure in failures:
        verdict = judge_failure(task, failure, seen, rules)
        task = verdict.task if isinstance(verdict, Retry) else task
    return verdict


def test_a_third_death_is_final_and_the_first_two_are_not():
    death = WorkerDeath("crash", "killed by SIGSEGV", "last words")
    assert isinstance(follow(TASK, death, death), Retry)
    verdict = follow(TASK, death, death, death)
    assert isinstance(verdict, Final)
    assert (verdict.outcome.kind, verdict.outcome.attempts, verdict.outcome.traceback) == ("crash", 3, "last words")


def test_the_death_of_a_models_own_process_is_charged_as_a_workers_and_the_worker_goes_on():
    failure = describe(Crash("the model's process: it ended (killed by SIGSEGV)", "last words"))
    assert not failure.poisoned
    assert follow(TASK, failure).task == dataclasses.replace(TASK, crashes=1, avoid=frozenset({7}))
    outcome = follow(TASK, failure, WorkerDeath("crash", "killed by SIGSEGV"), failure).outcome
    assert (outcome.kind, outcome.attempts) == ("crash", 3)
    assert "SIGSEGV), 3 times in all" in outcome.text
    assert "last words" not in outcome.text
    assert "last words" in outcome.traceback


def test_deaths_of_earlier_runs_count():
    assert isinstance(judge_failure(Task(Item("a"), crashes=2), WorkerDeath("hang", "silent"), SEEN, RULES), Final)


def test_what_we_took_back_is_charged_to_nobody():
    assert follow(TASK, *[WorkerDeath("taken_back", "")] * 9).task.crashes == 0


def test_forgiveness_ends():
    excused = WorkerDeath("excused", "killed by SIGKILL")
    assert follow(TASK, excused, excused).task.crashes == 0
    assert follow(TASK, excused, excused, excused).task.crashes == 1


def test_out_of_memory_in_company_is_tried_alone_at_full_size():
    task = follow(TASK, OOM).task
    assert (task.alone, task.level) == (True, 0)


def test_out_of_memory_alone_in_a_used_process_is_tried_in_a_fresh_one():
    used = dataclasses.replace(ALONE, fresh=False)
    assert follow(TASK, OOM, seen=used).task.level == 0


def test_out_of_memory_alone_shrinks_then_ends():
    assert follow(TASK, OOM, seen=ALONE).task.level == 1
    verdict = follow(TASK, OOM, OOM, seen=ALONE)
    assert isinstance(verdict, Final)
    assert (verdict.outcome.kind, verdict.outcome.peak_bytes, verdict.outcome.shrink) == ("oom", 90, 0.5)


def test_where_shrinking_is_not_allowed_it_ends_at_once_and_says_so():
    verdict = follow(TASK, OOM, seen=ALONE, rules=dataclasses.replace(RULES, allow_shrink=False))
    assert (verdict.outcome.shrink, "allow_shrink" in verdict.outcome.remedy) == (1.0, True)


def test_a_tenant_that_came_later_is_waited_for_and_never_the_items_fault():
    crowded = dataclasses.replace(ALONE, foreign_bytes=60)
    assert follow(TASK, OOM, seen=crowded).task.not_before == 51.0
    verdict = follow(TASK, OOM, OOM, OOM, seen=crowded)
    assert isinstance(verdict, Pending)
    assert "others hold" in verdict.outcome.text
    usual = dataclasses.replace(crowded, usual_foreign_bytes=60)
    assert isinstance(follow(TASK, OOM, OOM, seen=usual), Final)


def test_storage_backs_off_twice_as_long_each_time_then_stops_the_pool():
    failure = describe(Transient("disk full"))
    first = follow(TASK, failure).task
    assert first.not_before == 51.0
    assert judge_failure(first, failure, SEEN, RULES).task.not_before == 52.0
    assert isinstance(follow(TASK, failure, failure, failure), Pending)


def test_an_error_is_tried_once_more_elsewhere():
    failure = describe(ValueError("x"))
    assert follow(TASK, failure).task.avoid == {7}
    assert follow(TASK, failure, failure).outcome.kind == "error"


def raised_from(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadInput("c", "t", "r"), "bad_input"),
        (OutOfMemory(5), "oom"),
        (MemoryError(), "oom"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "oom"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), "oom"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), "oom"),
        (ValueError("we ran out of memory of what to say"), "error"),
        (OSError(24, "Too many open files"), "descriptors"),
        (RuntimeError("Unable to open file (name = 'a.h5', errno = 24, error message = 'Too many open files')"), "descriptors"),
        (raised_from(BadInput("unreadable", "a.mp4 cannot be opened", "r"), OSError(24, "Too many open files")), "descriptors"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "backend"),
        (Crash("RuntimeError: The NVIDIA driver on your system is too old (found version 11040)"), "backend"),
        (ValueError("no kernel image is available"), "error"),
        (OSError(28, "No space left on device"), "transient"),
        (OSError(2, "No such file"), "error"),
        (BackendUnavailable("no weights"), "backend"),
        (Crash("the model's process: it ended", "last words"), "crash"),
        (KeyboardInterrupt(), "error"),
    ],
)
def test_failures_are_told_apart(error, kind):
    assert describe(error).kind == kind


@pytest.mark.parametrize(
    ("error", "waits_for_a_person"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (raised_from(Transient("writing a.h5"), OSError(errno.EDQUOT, "Disk quota exceeded")), True),
        (RuntimeError("Unable to flush file (errno = 28, error message = 'No space left on device')"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (Transient("the hub did not answer"), False),
    ],
)
def test_nothing_is_computed_again_for_a_disk_that_stays_full(error, waits_for_a_person):
    assert isinstance(follow(TASK, describe(error)), Pending if waits_for_a_person else Retry)


def test_a_sticky_cuda_error_poisons_the_worker_and_a_lost_card_is_known():
    sticky = describe(RuntimeError("CUDA error: device-side assert triggered"))
    assert (sticky.poisoned, sticky.device_lost) == (True, False)
    lost = describe(RuntimeError("CUDA error: uncorrectable ECC error encountered"))
    assert (lost.poisoned, lost.device_lost) == (True, True)
    assert not describe(ValueError("CUDA error")).poisoned
    in_the_model = describe(Crash("AcceleratorError: CUDA error: uncorrectable ECC error encountered"))
    assert (in_the_model.poisoned, in_the_model.device_lost) == (False, True)


def test_what_a_full_card_makes_of_a_librarys_handle_is_out_of_memory_there_and_an_error_elsewhere():
    failure = describe(RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"))
    full = dataclasses.replace(SEEN, total_bytes=8 << 30, free_bytes=100 << 20)
    assert in_context(failure, full).kind == "oom"
    assert follow(TASK, failure, seen=full).task.alone
    empty = dataclasses.replace(full, free_bytes=2 << 30)
    assert in_context(failure, empty).kind == "error"
    in_the_model = describe(Crash("RuntimeError: GET was unable to find an engine to execute this computation"))
    assert in_context(in_the_model, full).kind == "oom"
    assert in_context(in_the_model, empty).kind == "crash"


def test_leaked_descriptors_are_charged_to_an_item_only_in_a_fresh_process():
    failure = describe(OSError(24, "Too many open files"))
    assert failure.poisoned
    assert follow(TASK, *[failure] * 9).task == TASK
    fresh = dataclasses.replace(SEEN, fresh=True)
    assert follow(TASK, failure, failure, seen=fresh).outcome.kind == "error"


def test_what_the_machine_lacks_is_no_items_fault():
    lacking = describe(BackendUnavailable("no weights"))
    assert follow(TASK, lacking).task.errors == 1
    verdict = follow(TASK, lacking, lacking)
    assert (type(verdict), verdict.why, verdict.outcome.attempts) == (Pending, "backend", 0)
    unfit = describe(RuntimeError("CUDA error: no kernel image is available for execution on the device"))
    assert unfit.device_lost
    assert follow(TASK, *[unfit] * 9).task == TASK


def test_longest_first_then_as_given_then_what_was_tried():
    queue = WorkQueue(Task(Item(key, size)) for key, size in (("a", 1.0), ("b", 3.0), ("c", 1.0), ("d", None)))
    queue.put(Task(Item("again"), avoid=frozenset({1})))
    order = [queue.take(1, 0.0, others=False).item.key for _ in range(5)]
    assert order == ["b", "a", "c", "d", "again"]


def test_an_item_goes_elsewhere_while_there_is_an_elsewhere():
    queue = WorkQueue([])
    queue.put(Task(Item("a"), avoid=frozenset({1})))
    assert queue.take(1, 0.0, others=True) is None
    assert queue.take(2, 0.0, others=True).item.key == "a"


def test_what_backs_off_waits_and_what_must_be_alone_is_not_shared():
    queue = WorkQueue([])
    queue.put(Task(Item("later"), not_before=10.0))
    queue.put(Task(Item("alone"), alone=True))
    assert queue.take(1, 9.0, others=False) is None
    assert queue.next_time() == 10.0
    assert queue.take(1, 10.0, others=False).item.key == "later"
    assert queue.take_alone(1, 0.0).item.key == "alone"
