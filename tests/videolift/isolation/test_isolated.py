"""A model in another interpreter: results, errors by kind, deaths, hangs, malformed frames, clashing names."""

import builtins
import errno
import io
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import videolift
from videolift.errors import BackendUnavailable, BadInput, Crash, OutOfMemory, Transient, is_descriptor_leak
from videolift.isolation import Isolated
from videolift.isolation import isolation_child as wire
from videolift.pool.workers.faults import describe

WORKER = """
import builtins, errno, os, sys, time
import numpy as np
from videolift_child import RefusedInput

loads = 0

def load(meta):
    global loads
    loads += 1
    if meta.get("fail"):
        raise FileNotFoundError("no such weights")
    return {"loads": loads, "pid": os.getpid()}

def call(meta, arrays, progress):
    do = meta["do"]
    if do == "double":
        for i in range(3):
            progress(i + 1, 3)
        return {"path": sys.path, "modules": sorted(sys.modules)}, {name: a * 2 for name, a in arrays.items()}
    if do == "bad":
        raise RefusedInput("too_dark", "brightness is 0.01, must be 0.1", "film it again")
    if do == "oom":
        np.empty((1 << 50,), np.uint8)
    if do == "cuda_oom":
        raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")
    if do == "cublas_oom":
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)")
    if do == "say":
        raise getattr(builtins, meta["kind"], RuntimeError)(*meta["arguments"])
    if do == "killed":
        os.kill(os.getpid(), 9)
    if do == "disk":
        raise OSError(errno.ENOSPC, "disk full")
    if do == "leak":
        held = []
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    if do == "error":
        raise ValueError("shapes differ")
    if do == "die":
        print("last words of the model", flush=True)
        os._exit(137)
    if do == "helpers":
        import subprocess
        helpers = [subprocess.Popen(["/bin/sleep", "600"], start_new_session=new) for new in (False, True)]
        progress(helpers[0].pid, helpers[1].pid)
        os.abort()
    if do == "abort":
        os.kill(os.getpid(), 6)
    if do == "hang":
        progress(0, 1)
        time.sleep(600)
    if do == "big":
        return {}, {"x": np.zeros(2, "U4")}
    if do == "garbage":
        from videolift_child import _Service
        import gc
        service = next(o for o in gc.get_objects() if isinstance(o, _Service))
        service._sink.write(b"\\xff" * 64)
        service._sink.flush()
        time.sleep(600)
"""


@pytest.fixture
def worker(tmp_path):
    path = tmp_path / "worker.py"
    path.write_text(WORKER)
    return path


@pytest.fixture
def child(worker):
    with Isolated(sys.executable, worker) as isolated:
        isolated.load({})
        yield isolated


def test_arrays_of_every_allowed_kind_survive_the_trip(child):
    arrays = {dtype: (np.arange(24) % 2).astype(dtype).reshape(2, 3, 4) for dtype in wire.DTYPES if dtype != "|b1"}
    _, out = child.call({"do": "double"}, arrays)
    for name, array in arrays.items():
        assert out[name].dtype == array.dtype
        assert np.array_equal(out[name], array * 2)


def test_empty_and_non_contiguous_arrays_survive_the_trip(child):
    _, out = child.call(
        {"do": "double"}, {"none": np.zeros((0, 3), np.float32), "strided": np.arange(10)[::3], "scalar": np.float64(2)}
    )
    assert out["none"].shape == (0, 3)
    assert out["strided"].tolist() == [0, 6, 12, 18]
    assert out["scalar"].shape == ()


def test_progress_arrives_in_order(child):
    seen = []
    child.call({"do": "double"}, {}, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert child.peak_bytes > 10_000_000


def test_the_child_cannot_import_our_packages(child):
    meta, _ = child.call({"do": "double"}, {})
    ours = Path(videolift.__file__).resolve().parents[1]
    assert not [p for p in meta["path"] if Path(p or ".").resolve() in (ours, ours / "videolift", ours / "stages")]
    assert not [m for m in meta["modules"] if m.split(".")[0] in ("videolift", "stages")]


@pytest.mark.parametrize(
    ("do", "kind"),
    [("bad", BadInput), ("oom", OutOfMemory), ("cuda_oom", OutOfMemory), ("cublas_oom", OutOfMemory), ("disk", Transient)],
)
def test_the_workers_exceptions_keep_their_kind_and_the_child_lives_on(child, do, kind):
    before = child.pid
    with pytest.raises(kind):
        child.call({"do": do}, {})
    assert child.call({"do": "double"}, {"x": np.ones(1)})[1]["x"][0] == 2
    assert child.pid == before


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("RuntimeError", ["cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"]),
        ("RuntimeError", ["DefaultCPUAllocator: can't allocate memory"]),
        ("RuntimeError", ["CUBLAS_STATUS_ALLOC_FAILED"]),
        ("MemoryError", []),
        ("OSError", [errno.EDQUOT, "Disk quota exceeded"]),
        ("OSError", [errno.ENFILE, "Too many open files in system"]),
        ("OSError", [errno.EMFILE, "Too many open files"]),
        ("OSError", [errno.ENOENT, "No such file"]),
        ("ValueError", ["out of memory"]),
        ("RuntimeError", ["CUDA error: no kernel image is available for execution on the device"]),
    ],
)
def test_the_same_error_means_the_same_in_a_models_process_as_in_a_worker(child, kind, arguments):
    here = describe(getattr(builtins, kind)(*arguments)).kind
    with pytest.raises(Exception) as there:  # noqa: PT011  which one is what is compared
        child.call({"do": "say", "kind": kind, "arguments": arguments}, {})
    assert describe(there.value).kind == ("crash" if here == "error" else here)


def test_after_an_exception_without_a_name_the_child_is_replaced(child):
    """A CUDA error, say, poisons every later call of its process."""
    before = child.pid
    with pytest.raises(Crash):
        child.call({"do": "error"}, {})
    assert child.call({"do": "double"}, {"x": np.ones(1)})[1]["x"][0] == 2
    assert child.pid != before


def test_a_child_that_has_leaked_its_descriptors_is_replaced_and_says_so(child):
    before = child.pid
    with pytest.raises(OSError, match="Too many open files") as error:
        child.call({"do": "leak"}, {})
    assert is_descriptor_leak(error.value)
    assert child.call({"do": "double"}, {"x": np.ones(1)})[1]["x"][0] == 2
    assert child.pid != before


def test_a_child_killed_by_the_kernel_ran_out_of_memory(child):
    with pytest.raises(OutOfMemory, match="SIGKILL"):
        child.call({"do": "killed"}, {})


def test_bad_input_keeps_code_text_and_remedy(child):
    with pytest.raises(BadInput) as error:
        child.call({"do": "bad"}, {})
    assert (error.value.code, error.value.remedy) == ("too_dark", "film it again")


def test_out_of_memory_tells_the_childs_peak(child):
    with pytest.raises(OutOfMemory) as error:
        child.call({"do": "oom"}, {})
    assert error.value.peak_bytes > 10_000_000


def test_an_exception_of_the_worker_brings_its_traceback(child):
    with pytest.raises(Crash, match=r'(?s)shapes differ.*raise ValueError\("shapes differ"\)'):
        child.call({"do": "error"}, {})


def test_a_crash_carries_the_last_lines_of_its_log_and_the_next_call_starts_anew(child):
    first = child.pid
    with pytest.raises(Crash, match="(?s)exit code 137.*last words of the model"):
        child.call({"do": "die"}, {})
    assert child.pid is None
    assert child.call({"do": "double"}, {"x": np.ones(1)})[1]["x"][0] == 2
    assert child.pid != first


def test_a_crash_names_the_signal(child):
    with pytest.raises(Crash, match="killed by SIGABRT"):
        child.call({"do": "abort"}, {})


def test_what_a_child_has_started_ends_with_it(child):
    helpers = []
    with pytest.raises(Crash, match="SIGABRT"):
        child.call({"do": "helpers"}, {}, lambda one, other: helpers.extend([one, other]))
    assert len(helpers) == 2
    assert all(_gone(pid) for pid in helpers)


def test_the_log_file_keeps_what_the_child_printed(worker, tmp_path):
    with Isolated(sys.executable, worker, log=tmp_path / "logs" / "x.log") as isolated:
        isolated.load({})
        with pytest.raises(Crash):
            isolated.call({"do": "die"}, {})
    assert "last words" in (tmp_path / "logs" / "x.log").read_text()


def test_a_worker_that_cannot_load_makes_the_backend_unavailable(worker):
    with Isolated(sys.executable, worker) as isolated, pytest.raises(BackendUnavailable, match="no such weights"):
        isolated.load({"fail": True})


def test_a_missing_interpreter_makes_the_backend_unavailable(worker, tmp_path):
    with Isolated(tmp_path / "nothing", worker) as isolated, pytest.raises(BackendUnavailable, match="nothing"):
        isolated.load({})


def test_an_interpreter_without_numpy_makes_the_backend_unavailable(worker, tmp_path):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho \"No module named 'numpy'\" >&2\nexit 1\n")
    fake.chmod(0o755)
    with Isolated(fake, worker) as isolated, pytest.raises(BackendUnavailable, match="No module named 'numpy'"):
        isolated.load({})


def test_closing_ends_an_idle_child_and_may_be_repeated(worker):
    isolated = Isolated(sys.executable, worker)
    pid = isolated.load({})["pid"]
    isolated.close()
    isolated.close()
    assert not psutil.pid_exists(pid)


class Enough(Exception):
    pass


def _stop(done, total):
    raise Enough


def test_a_call_that_is_given_up_ends_its_child_and_the_next_one_is_answered_by_another(child):
    first = child.pid
    with pytest.raises(Enough):
        child.call({"do": "hang"}, {}, _stop)
    assert not psutil.pid_exists(first)
    assert child.call({"do": "double"}, {"x": np.ones(1)})[1]["x"][0] == 2


def test_closing_kills_a_child_that_does_not_leave(tmp_path, monkeypatch):
    monkeypatch.setattr("videolift.isolation.isolated.CLOSE_GRACE_S", 0.2)
    stubborn = tmp_path / "worker.py"
    stubborn.write_text(
        "import os, threading, time\n\ndef load(meta):\n    import videolift_child\n"
        "    videolift_child._Service.run = None\n    os._exit = lambda code: time.sleep(600)\n"
        "    return {'pid': os.getpid()}\n"
    )
    isolated = Isolated(sys.executable, stubborn)
    pid = isolated.load({})["pid"]
    isolated.close()
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="PDEATHSIG is Linux")
def test_a_hanging_child_dies_with_its_killed_parent(worker):
    code = f"""
    import sys
    from videolift.isolation import Isolated
    isolated = Isolated(sys.executable, {str(worker)!r})
    pid = isolated.load({{}})["pid"]
    isolated.call({{"do": "hang"}}, {{}}, lambda done, total: print(pid, flush=True))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _gone(pid)


def _gone(pid):
    end = time.monotonic() + 60  # at once, but a busy machine takes its time
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_a_reply_off_the_format_is_a_crash(child):
    with pytest.raises(Crash, match="frame format"):
        child.call({"do": "garbage"}, {})


def test_a_result_that_cannot_be_sent_is_the_workers_fault(child):
    with pytest.raises(Crash, match="dtype"):
        child.call({"do": "big"}, {})


def test_huge_arrays_are_refused_before_anything_is_sent(child):
    huge = np.broadcast_to(np.zeros(1, np.uint8), ((4 << 30) + 1,))
    with pytest.raises(wire.FrameError, match="fewer frames"):
        wire.write_frame(io.BytesIO(), {}, {"x": huge})
    assert child.call({"do": "double"}, {"x": np.ones(1)})[1]["x"][0] == 2


def _frame(header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(struct.pack("<I", len(text)) + text + payload)


def _announcing(dtype="<f4", shape=(2,), name="x"):
    return {"arrays": [{"name": name, "dtype": dtype, "shape": shape}]}


@pytest.mark.parametrize(
    "stream",
    [
        io.BytesIO(b"\x01"),
        io.BytesIO(struct.pack("<I", (1 << 20) + 1)),
        io.BytesIO(struct.pack("<I", 10) + b"{}"),
        _frame(b"not json"),
        _frame(b"[1]"),
        _frame({"no": "arrays"}),
        _frame(_announcing(dtype="|O")),
        _frame(_announcing(dtype=">f4")),
        _frame(_announcing(shape=[-1, 2])),
        _frame(_announcing(shape=[1 << 39, 1 << 39])),
        _frame(_announcing(shape=[True])),
        _frame(_announcing(shape=[1.5])),
        _frame(_announcing(name=3)),
        _frame({"arrays": 2 * _announcing()["arrays"]}),
        _frame({"arrays": [{"name": str(i), "dtype": "|u1", "shape": []} for i in range(65)]}),
        _frame(_announcing(), payload=b"1234567"),
    ],
)
def test_a_malformed_frame_is_refused(stream):
    with pytest.raises(wire.FrameError):
        wire.read_frame(stream)


def test_the_end_between_frames_is_no_error():
    assert wire.read_frame(io.BytesIO(b"")) is None


def test_a_header_above_the_limit_is_refused():
    with pytest.raises(wire.FrameError, match="header"):
        wire.write_frame(io.BytesIO(), {"meta": "x" * (1 << 20)}, {})


CLASHING = """
import sys

def load(meta):
    sys.path.insert(0, meta["checkout"])
    import datasets, models, utils
    return {"names": [m.WHOSE for m in (utils, models, datasets)]}

def call(meta, arrays, progress):
    import utils
    return {"whose": utils.WHOSE}, {}
"""


def test_two_models_and_we_may_all_have_a_module_named_utils(tmp_path, monkeypatch):
    for owner in ("ours", "first", "second"):
        for name in ("utils", "models", "datasets"):
            (tmp_path / owner).mkdir(exist_ok=True)
            (tmp_path / owner / f"{name}.py").write_text(f"WHOSE = {owner!r}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "ours"))
    monkeypatch.syspath_prepend(tmp_path / "ours")
    monkeypatch.chdir(tmp_path / "ours")
    worker = tmp_path / "worker.py"
    worker.write_text(CLASHING)
    with Isolated(sys.executable, worker) as first, Isolated(sys.executable, worker) as second:
        assert first.load({"checkout": str(tmp_path / "first")}) == {"names": ["first"] * 3}
        assert second.load({"checkout": str(tmp_path / "second")}) == {"names": ["second"] * 3}
        assert first.call({}, {})[0] == {"whose": "first"}
        import utils

        assert utils.WHOSE == "ours"
    for name in ("utils", "models", "datasets"):
        sys.modules.pop(name, None)


def test_the_child_speaks_the_current_protocol_or_is_refused(worker, tmp_path, monkeypatch):
    old = tmp_path / "isolation_child.py"
    old.write_text(Path(wire.__file__).read_text().replace("PROTOCOL = 2", "PROTOCOL = 0"))
    monkeypatch.setattr("videolift.isolation.isolated.CHILD", old)
    with Isolated(sys.executable, worker) as isolated, pytest.raises(BackendUnavailable, match="protocol 0"):
        isolated.load({})


def test_the_childs_file_runs_on_python_3_9():
    import ast

    tree = ast.parse(Path(wire.__file__).read_text(), feature_version=(3, 9))
    imported = {
        (n.module or "") if isinstance(n, ast.ImportFrom) else n.names[0].name
        for n in ast.walk(tree)
        if isinstance(n, (ast.Import, ast.ImportFrom))
    }
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names) | {"numpy"}


def test_descriptors_are_closed_after_many_starts(worker):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Isolated(sys.executable, worker) as isolated:
            isolated.load({})
    assert len(os.listdir("/proc/self/fd")) <= before


def test_signs_of_life_are_told_at_most_once_in_their_time_and_never_after_the_end():
    told = []
    signs = wire.SignsOfLife(lambda *step: told.append(step), 2)
    signs.every_s = float("inf")
    signs()
    signs.step()
    assert told == [(0, 2)]
    signs = wire.SignsOfLife(lambda *step: told.append(step), 2)
    signs.every_s = 0.0
    for _ in range(3):
        signs.step()
    signs.end()
    signs()
    assert told[1:] == [(1, 2), (2, 2), (2, 2)]
