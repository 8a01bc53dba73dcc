"""Files that WiLoR's worker opens: MANO without chumpy, and nothing that a pickle says is run."""

import importlib.util
import io
import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from stages.hands.wilor import WORKER
from videolift.isolation import checkpoints, isolation_child


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.setitem(sys.modules, "videolift_child", isolation_child)
    monkeypatch.setitem(sys.modules, "videolift_checkpoints", checkpoints)
    spec = importlib.util.spec_from_file_location("wilor_worker_under_test", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def chumpy(monkeypatch):
    """A stand-in for chumpy while a file is written; gone when it is read."""

    class Ch:
        def __init__(self, **state):
            self.__dict__.update(state)

        def __getstate__(self):
            return self.__dict__

    class Select(Ch):
        pass

    for name, holds in {"chumpy": {}, "chumpy.ch": {"Ch": Ch}, "chumpy.reordering": {"Select": Select}}.items():
        module = types.ModuleType(name)
        for kind in holds.values():
            kind.__module__, kind.__qualname__ = name, kind.__name__
        vars(module).update(holds)
        monkeypatch.setitem(sys.modules, name, module)
    return Ch, Select


@pytest.mark.parametrize("protocol", [0, 2])
def test_mano_is_read_without_chumpy(worker, chumpy, tmp_path, monkeypatch, protocol):
    Ch, Select = chumpy
    random = np.random.default_rng(0)
    template, shapes = random.random((778, 3)), random.random((778, 3, 20))
    chosen = np.arange(shapes.size).reshape(shapes.shape)[..., :10].ravel()
    regressor = scipy.sparse.csc_matrix(random.random((16, 778)) * (random.random((16, 778)) < 0.1))
    data = {
        "v_template": Ch(x=template, _dirty_vars={"x"}),
        "shapedirs": Select(a=Ch(x=shapes), idxs=chosen, preferred_shape=(778, 3, 10)),
        "weights": random.random((778, 16)),
        "J_regressor": regressor,
        "bs_style": "lbs",
    }
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(pickle.dumps(data, protocol=protocol))
    for name in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        monkeypatch.delitem(sys.modules, name)
    plain = worker.plain_mano(tmp_path / "MANO_RIGHT.pkl")
    assert all(type(array) is np.ndarray for array in plain.values())
    assert np.array_equal(plain["v_template"], template)
    assert np.array_equal(plain["shapedirs"], shapes[..., :10])
    assert np.array_equal(plain["J_regressor"], regressor.toarray())


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def test_a_mano_file_that_wants_to_run_something_is_refused(worker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(pickle.dumps({"v_template": Evil()}))
    with pytest.raises(pickle.UnpicklingError, match="system"):
        worker.plain_mano(tmp_path / "MANO_RIGHT.pkl")
    assert not (tmp_path / "evil").exists()


def test_a_checkpoint_that_wants_to_run_something_is_refused_with_its_name(worker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    restricted = checkpoints.restricted_pickle(checkpoints.NUMPY_VALUES, inert=worker.INERT_MODULES)
    with pytest.raises(pickle.UnpicklingError, match="wants .*system"):
        restricted.load(io.BytesIO(pickle.dumps({"state_dict": Evil()})))
    assert not (tmp_path / "evil").exists()


class Writes:
    def __reduce__(self):
        return Path.write_text, (Path("evil"), "written")


def test_a_method_of_a_class_that_a_checkpoint_may_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    restricted = checkpoints.restricted_pickle({"pathlib": ("Path", "PosixPath")})
    assert restricted.load(io.BytesIO(pickle.dumps(Path("good")))) == Path("good")
    with pytest.raises(pickle.UnpicklingError, match="wants pathlib.Path.write_text"):
        restricted.load(io.BytesIO(pickle.dumps(Writes())))
    assert not (tmp_path / "evil").exists()


def test_a_configuration_inside_a_checkpoint_becomes_an_inert_dictionary(worker, monkeypatch):
    module = types.ModuleType("yacs.config")
    CfgNode = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    data = pickle.dumps({"cfg": CfgNode(a=1), "n": np.float64(2), "shape": (1, 2)})
    monkeypatch.delitem(sys.modules, "yacs.config")
    loaded = checkpoints.restricted_pickle(checkpoints.NUMPY_VALUES, inert=worker.INERT_MODULES).load(io.BytesIO(data))
    assert loaded["n"] == 2
    assert isinstance(loaded["cfg"], dict)
