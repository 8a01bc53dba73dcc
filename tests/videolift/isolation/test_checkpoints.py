"""Checkpoints from anywhere: plain archives of tensors pass, whatever else is refused before torch, or anything of it, has run."""

import builtins
import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from videolift.isolation import checkpoints
from videolift.isolation.checkpoints import UnsafeCheckpoint, check_archive, check_weights, restricted_pickle

FLOATS = b"\0" * 16


class FloatStorage:
    """Stands for torch's class of that name while a pickle is written."""


FloatStorage.__module__ = "torch"


def rebuild(*parts):
    """Stands for torch._utils._rebuild_tensor_v2."""


rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"


class Stored:
    """The bytes of a tensor, which a pickle names by their record."""

    def __init__(self, key, items):
        self.saved = ("storage", FloatStorage, key, "cpu", items)


class Tensor:
    """Pickled as torch pickles a tensor."""

    def __init__(self, key="0", items=4):
        self.stored = Stored(key, items)

    def __reduce__(self):
        return rebuild, (self.stored, 0, (4,), (1,), False, collections.OrderedDict())


class Evil:
    def __reduce__(self):
        return builtins.eval, ("__import__('pathlib').Path('evil').touch()",)


def pickled(content):
    """As torch.save writes ``data.pkl``, without torch."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return thing.saved if isinstance(thing, Stored) else None

    modules = {"torch": types.ModuleType("torch"), "torch._utils": types.ModuleType("torch._utils")}
    modules["torch"].FloatStorage, modules["torch._utils"]._rebuild_tensor_v2 = FloatStorage, rebuild
    out, kept = io.BytesIO(), {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        Pickler(out, protocol=2).dump(content)
    finally:
        for name, module in kept.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})
    return out.getvalue()


PLAIN = {"archive/data.pkl": pickled({"weight": Tensor()}), "archive/data/0": FLOATS, "archive/version": b"3\n"}


def archive(records=PLAIN, *, compression=zipfile.ZIP_STORED, comment=b""):
    """Bytes of a zip; ``records`` may be pairs, to name one twice."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, content in records.items() if isinstance(records, dict) else records:
            file.writestr(zipfile.ZipInfo(name), content, compression)
        file.comment = comment
    return out.getvalue()


def hidden_in_front():
    """One archive before another: a reader that counts from the front and one that counts from the end see different files."""
    return archive({"archive/data.pkl": pickle.dumps(Evil())}) + archive()


def two_directories():
    """A zip64 directory that only some readers follow."""
    evil, good = archive({"archive/data.pkl": pickle.dumps(Evil())}), archive()
    count, length, at = struct.unpack("<HLL", good[-12:-2])
    end_64 = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, at)
    return good[:-22] + end_64 + struct.pack("<4sLQL", b"PK\x06\x07", 0, len(evil), 1) + good[-22:]


def other_name_in_its_header():
    return archive().replace(b"archive/version", b"archive/constan", 1)


HOSTILE = {
    "TorchScript": (archive({**PLAIN, "archive/constants.pkl": b"", "archive/code/a.py": b"x"}), "TorchScript"),
    "TorchScript by its code alone": (archive({**PLAIN, "archive/code/__torch__.py": b"x"}), "TorchScript"),
    "a bare pickle": (pickle.dumps(Evil()), "bare pickle"),
    "a legacy tar": (b"tensors\0".ljust(512, b"\0") * 3, "old tar"),
    "empty": (b"", "not a zip archive"),
    "an archive in an archive": (archive({**PLAIN, "archive/inner.zip": archive()}), "inner.zip"),
    "an archive in front of another": (hidden_in_front(), "in front of"),
    "an archive behind a comment": (archive(comment=archive()), "in front of"),
    "two directories": (two_directories(), "directories that differ|damaged"),
    "names that differ in case": (archive({**PLAIN, "archive/DATA.PKL": pickle.dumps(Evil())}), "DATA.PKL"),
    "folders that differ in case": (archive({**PLAIN, "Archive/data.pkl": pickle.dumps(Evil())}), "Archive"),
    "a record twice": (archive([*PLAIN.items(), ("archive/data.pkl", pickle.dumps(Evil()))]), "two records"),
    "another name in the record's header": (other_name_in_its_header(), "two names|damaged"),
    "a path out of it": (archive({**PLAIN, "../data.pkl": b""}), "which a plain archive"),
    "a name cut by a zero": (archive({**PLAIN, "archive/data/1": b"x"}).replace(b"archive/data/1", b"archive/data/\0"), "record"),
    "no pickle": (archive({"archive/version": b"3"}), "no data.pkl"),
    "compressed a thousandfold": (
        archive({**PLAIN, "archive/data/0": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED),
        "compressed",
    ),
    "a tensor longer than its record": (archive({**PLAIN, "archive/data.pkl": pickled([Tensor(items=5)])}), "20 bytes .* has 16"),
    "a tensor of 10^15 items": (archive({**PLAIN, "archive/data.pkl": pickled([Tensor(items=10**15)])}), "has 16"),
    "a tensor of minus one item": (archive({**PLAIN, "archive/data.pkl": pickled([Tensor(items=-1)])}), "not known"),
    "a tensor without a record": (archive({**PLAIN, "archive/data.pkl": pickled([Tensor(key="7")])}), "has 0"),
    "a tensor from elsewhere": (archive({**PLAIN, "archive/data.pkl": pickled([Tensor(key="../../etc/passwd")])}), "has 0"),
    "a comment": (archive(comment=b"x"), "behind the end"),
    "cut off": (archive()[:-30], "damaged|behind the end"),
    "no pickle in data.pkl": (archive({**PLAIN, "archive/data.pkl": b"\x80\x02)\x81."}), "does not read"),
}


def test_what_torch_saves_passes(tmp_path):
    (tmp_path / "good.pt").write_bytes(archive())
    check_archive(tmp_path / "good.pt")
    check_archive(io.BytesIO(archive()))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_says_what_it_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, what = HOSTILE[name]
    Path("hostile.pt").write_bytes(content)
    with pytest.raises(UnsafeCheckpoint, match=what) as error:
        check_archive("hostile.pt")
    assert "docs/models.md" in str(error.value)
    assert not Path("evil").exists()


def test_bytes_changed_anywhere_pass_or_are_refused_and_never_raise_anything_else():
    import random

    chance = random.Random(0)
    good = archive()
    for _ in range(500):
        content = bytearray(good)
        for _ in range(chance.choice((1, 1, 3))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        with suppress(UnsafeCheckpoint):
            check_archive(io.BytesIO(bytes(content)))


def test_a_large_pickle_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_PICKLE_BYTES", 10)
    with pytest.raises(UnsafeCheckpoint, match="at most 10"):
        check_archive(io.BytesIO(archive()))


def test_the_look_through_runs_nothing_of_the_pickle(tmp_path, monkeypatch):
    """What a pickle names is for the unpickler that follows; here it is only stood in for."""
    monkeypatch.chdir(tmp_path)
    check_archive(io.BytesIO(archive({**PLAIN, "archive/data.pkl": pickled([Evil(), Tensor()])})))
    assert not Path("evil").exists()


class OfBytes:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return bytes, self.arguments


def test_bytes_of_a_number_would_allocate_that_many_and_are_refused():
    with pytest.raises(pickle.UnpicklingError, match="bytes of a int"):
        restricted_pickle({}).load(io.BytesIO(pickle.dumps(OfBytes(10**12))))
    assert restricted_pickle({}).load(io.BytesIO(pickle.dumps([b"", b"a\xff"], protocol=2))) == [b"", b"a\xff"]


# every way into torch that the workers have


def _torch(monkeypatch):
    """A torch that fails the test when it is shown a file."""
    torch, hub, jit = (types.ModuleType(name) for name in ("torch", "torch.hub", "torch.jit"))

    def load(file, map_location=None, *, weights_only=None, pickle_module=None):
        pytest.fail(f"torch saw {file}")

    def load_state_dict_from_url(url, model_dir=None, map_location=None, progress=True, check_hash=False, file_name=None):
        pytest.fail(f"torch.hub saw {url}")

    torch.load, torch.hub, torch.jit = load, hub, jit
    hub.load_state_dict_from_url, jit.load = load_state_dict_from_url, load
    torch.backends = types.SimpleNamespace(
        cudnn=types.SimpleNamespace(allow_tf32=True), cuda=types.SimpleNamespace(matmul=types.SimpleNamespace(allow_tf32=True))
    )
    for module in (torch, hub, jit):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return torch


def _worker(monkeypatch, name):
    import importlib

    from videolift.isolation import isolation_child

    monkeypatch.setitem(sys.modules, "videolift_child", isolation_child)
    monkeypatch.setitem(sys.modules, "videolift_checkpoints", checkpoints)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


def _moge(monkeypatch, path):
    class MoGeModel:
        def infer(self, image, fov_x, resolution_level, apply_mask, use_fp16): ...

        @staticmethod
        def from_pretrained(path):
            pytest.fail(f"MoGe saw {path}")

    for name in ("moge", "moge.model", "moge.model.v2"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["moge.model.v2"].MoGeModel = MoGeModel
    _worker(monkeypatch, "stages.depth.moge_worker").load({"paths": [], "weights": path, "device": "cpu"})


def _detector(monkeypatch, path):
    def torch_safe_load(weight, safe_only=False): ...

    class YOLO:
        def __init__(self, path):
            pytest.fail(f"ultralytics saw {path}")

    for name in ("ultralytics", "ultralytics.nn"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["ultralytics"].YOLO = YOLO
    safe = types.SimpleNamespace(SUPPORTED=True)
    sys.modules["ultralytics.nn"].tasks = types.SimpleNamespace(torch_safe_load=torch_safe_load, SAFE_LOAD=True, _SafeLoad=safe)
    _worker(monkeypatch, "stages.hands.wilor_worker")._load_detector(path)


def _hub(monkeypatch, path):
    _worker(monkeypatch, "stages.depth.vipe_worker")._restrict_hub()
    hub = sys.modules["torch"].hub
    hub.load_state_dict_from_url("https://example.invalid/x", str(Path(path).parent), file_name=Path(path).name)


def _files(monkeypatch, path):
    """What upstream reads by ``torch.load`` of its own: looked through before upstream is even imported."""
    _worker(monkeypatch, "stages.depth.vipe_worker").load({"weights": [path], "pipeline": "default", "mask_phrases": []})


WAYS = {
    "MoGe": _moge,
    "TAPIP3D": lambda monkeypatch, path: _worker(monkeypatch, "stages.tracks.tapip3d_worker")._read_model(path),
    "WiLoR": lambda monkeypatch, path: _worker(monkeypatch, "stages.hands.wilor_worker")._read_weights(path),
    "WiLoR's detector": _detector,
    "ViPE by torch.hub": _hub,
    "ViPE by itself": _files,
}


@pytest.mark.parametrize("name", ["TorchScript", "a bare pickle", "a legacy tar", "a tensor longer than its record"])
@pytest.mark.parametrize("way", WAYS)
def test_no_worker_shows_torch_a_hostile_file(way, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    _torch(monkeypatch)
    (tmp_path / "hostile.pt").write_bytes(HOSTILE[name][0])
    with pytest.raises(UnsafeCheckpoint, match=HOSTILE[name][1]):
        WAYS[way](monkeypatch, str(tmp_path / "hostile.pt"))


def test_every_file_of_a_folder_of_weights_is_looked_through(tmp_path):
    folder = tmp_path / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"no pickle")
    (folder / "good.pth").write_bytes(archive())
    check_weights(str(tmp_path))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UnsafeCheckpoint, match="pytorch_model.bin: a bare pickle"):
        check_weights(str(tmp_path))
