"""The SAM 2 worker, chunk by chunk and through a kill, against upstream's own inference over a folder of JPEG files."""

import numpy as np
import pytest

from tests.upstream.small_sam2 import CONFIG, OVERRIDES
from videolift.errors import BackendUnavailable

FRAMES = 24
"""More than the 16 whose pointers are remembered."""


@pytest.fixture(scope="module")
def direct(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam2")
    rgb = np.random.default_rng(0).integers(0, 256, (FRAMES, 6, 8, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    mask = np.zeros((96, 128), np.uint8)
    mask[10:40, 10:50], mask[50:80, 60:110] = 3, 7
    click, box = np.array([[30.0, 20.0]]), np.array([[60.0, 40.0], [110.0, 80.0]])
    np.savez(folder / "input.npz", rgb=rgb, mask=mask, click=click, box=box)
    run("direct_sam2.py", folder, CONFIG, *OVERRIDES)
    prompts = [{"id": 1, "kind": "click", "uv_px": click.tolist()}, {"id": 2, "kind": "box", "uv_px": box.tolist()}]
    return folder, {"pointed": ([1, 2], prompts, {}), "masked": ([3, 7], [], {"mask": mask})}, dict(np.load(folder / "direct.npz"))


def meta_of(folder, upstream, **changes):
    known = {"paths": [str(upstream / "sam2")], "config": CONFIG, "overrides": OVERRIDES}
    return {**known, "weights": str(folder / "sam2.pt"), "device": "cpu", **changes}


def followed(worker, direct, name, bounds, memory=None):
    """Instance ids of the chunks between ``bounds``, and what is remembered in the end."""
    ids, prompts, given = direct[1][name]
    memory, out, told = memory or given, [], []
    for start, end in zip(bounds, bounds[1:], strict=False):
        meta = {"first": start, "total": FRAMES, "ids": ids, "prompts": prompts}
        rgb = direct[2]["rgb"][start:end]
        _, memory = worker.call(meta, {"rgb": rgb, **memory}, lambda *step: told.append(step))
        out.append(memory.pop("instance"))
    assert told
    return np.concatenate(out), memory


def upstreams(direct, name):
    """Instance ids of upstream's logits: where objects overlap, the surer one."""
    ids, logits = np.array(direct[1][name][0], np.uint8), direct[2][name]
    return np.where(logits.max(1) > 0, ids[logits.argmax(1)], 0)


@pytest.mark.parametrize("name", ["pointed", "masked"])
def test_chunks_give_what_upstream_gives_for_the_whole_video_at_once(start, direct, upstream, name):
    worker = start("masks/sam2_worker.py", meta_of(direct[0], upstream))
    wanted = upstreams(direct, name)
    whole, _ = followed(worker, direct, name, [0, FRAMES])
    parts, _ = followed(worker, direct, name, [0, 1, 3, 20, FRAMES])
    shares = [float((wanted == number).mean()) for number in direct[1][name][0]]
    print(f"SAM 2, {name}: {(whole != wanted).sum()} pixels of {wanted.size} differ from upstream, objects fill {shares}")
    assert (whole == wanted).mean() == 1.0
    assert (parts == whole).all()
    assert 0.01 < (wanted > 0).mean() < 0.99
    assert (wanted[1:] != wanted[:-1]).any(), "nothing moves, so nothing is compared"


def test_another_process_goes_on_from_what_was_remembered(start, direct, upstream):
    first, second = (start("masks/sam2_worker.py", meta_of(direct[0], upstream)) for _ in range(2))
    begun, memory = followed(first, direct, "pointed", [0, 5, 19])
    rest, _ = followed(second, direct, "pointed", [19, FRAMES], {key: np.array(value) for key, value in memory.items()})
    assert (np.concatenate([begun, rest]) == upstreams(direct, "pointed")).all()


def test_weights_that_are_a_bare_pickle_are_refused(start, direct, upstream, tmp_path):
    (tmp_path / "sam2.pt").write_bytes(b"\x80\x02cos\nsystem\n.")
    with pytest.raises(BackendUnavailable, match="pickle"):
        start("masks/sam2_worker.py", meta_of(direct[0], upstream, weights=str(tmp_path / "sam2.pt")))
