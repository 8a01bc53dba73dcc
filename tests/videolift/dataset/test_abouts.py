"""Facts of thousands of files in little memory, backends listed once."""

import json
import tracemalloc

from videolift.dataset.abouts import Abouts


def about(number, *backends):
    lineage = {stage: {"backend": backend, "shrink": 1.0, "checks": []} for stage, backend in backends}
    return {"tier": "A", "scale": "metric", "frames": number, "parts": ["depth"], "quality": {"x": 0.5}, "lineage": lineage}


SFM, FLOW = {"name": "sfm", "settings": {"features": 900}}, {"name": "flow", "version": 2}


def test_backends_are_listed_once_and_referred_to_by_number():
    found = Abouts()
    found.put("a", about(1, ("depth", SFM), ("tracks", FLOW)))
    found.put("b", about(2, ("tracks", FLOW)))
    assert [found.backends[found["a"]["lineage"][stage]["backend"]] for stage in ("depth", "tracks")] == [SFM, FLOW]
    assert found["b"]["lineage"]["tracks"] == {"backend": found.backends.index(FLOW), "shrink": 1.0, "checks": []}
    assert len(found.backends) == 2
    assert found["b"]["frames"] == 2


def test_what_is_adopted_refers_to_the_adopters_numbers():
    one, other = Abouts(), Abouts()
    one.put("a", about(1, ("tracks", FLOW)))
    other.put("b", about(2, ("depth", SFM), ("tracks", FLOW)))
    one.adopt(other.texts(), other.backends)
    fresh = Abouts()
    fresh.put("a", about(1, ("tracks", FLOW)))
    fresh.put("b", about(2, ("depth", SFM), ("tracks", FLOW)))
    assert dict(one) == dict(fresh)
    assert one.backends == fresh.backends == [FLOW, SFM]
    empty = Abouts()
    empty.adopt(other.texts(), other.backends)
    assert (dict(empty), empty.backends) == (dict(other), other.backends)


def test_thousands_take_little_more_than_their_text():
    big = {"name": "sfm", "settings": {f"setting {i}": i for i in range(100)}}
    text = len(json.dumps(about(1, ("depth", 0))))
    tracemalloc.start()
    try:
        found = Abouts()
        for number in range(2000):
            found.put(number, about(number, ("depth", dict(big))))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / 2000 < text + 200
