"""Cards as the driver tells of them: lost ones, odd ones, and their numbers. NVML is made up, of the true module's own names."""

import dataclasses
from types import SimpleNamespace

import pynvml
import pytest

from tests.videolift.pool.conftest import QUICK, item, plain
from videolift.errors import BackendUnavailable
from videolift.pool import devices_for, find_devices
from videolift.pool.devices import Card, DeviceLost, Nvml

GIB = 2**30


@dataclasses.dataclass
class MadeUpCard:
    uuid: str
    name: str = "Card"
    total: int = 8 * GIB
    faults: dict[str, int] = dataclasses.field(default_factory=dict)
    """NVML function to the error that it raises for this card."""
    hiccups: list[str] = dataclasses.field(default_factory=list)
    """NVML functions that fail for it once."""


@pytest.fixture
def driver(monkeypatch):
    """Makes NVML tell of the cards it is given."""

    def install(*cards):
        by_uuid = {card.uuid: card for card in cards}

        def answer(name, give):
            def function(handle):
                if name in handle.faults:
                    raise pynvml.NVMLError(handle.faults[name])
                if name in handle.hiccups:
                    handle.hiccups.remove(name)
                    raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)
                return give(handle)

            monkeypatch.setattr(pynvml, name, function)

        def handle_by_uuid(uuid):
            card = by_uuid[uuid]
            if "nvmlDeviceGetHandleByUUID" in card.faults:
                raise pynvml.NVMLError(card.faults["nvmlDeviceGetHandleByUUID"])
            return card

        def handle_by_index(index):
            if "nvmlDeviceGetHandleByIndex" in cards[index].faults:
                raise pynvml.NVMLError(cards[index].faults["nvmlDeviceGetHandleByIndex"])
            return cards[index]

        monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(cards))
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", handle_by_index)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", handle_by_uuid)
        answer("nvmlDeviceGetMigMode", lambda card: (pynvml.NVML_DEVICE_MIG_DISABLE, pynvml.NVML_DEVICE_MIG_DISABLE))
        answer("nvmlDeviceGetUUID", lambda card: card.uuid)
        answer("nvmlDeviceGetName", lambda card: card.name)
        answer("nvmlDeviceGetMemoryInfo", lambda card: SimpleNamespace(total=card.total, free=card.total))
        answer("nvmlDeviceGetComputeRunningProcesses", lambda card: [])
        answer("nvmlDeviceGetUtilizationRates", lambda card: SimpleNamespace(gpu=50))
        return Nvml()

    return install


def test_a_card_that_is_masked_out_may_be_broken(driver):
    broken = MadeUpCard("GPU-b", faults={"nvmlDeviceGetMemoryInfo": pynvml.NVML_ERROR_GPU_IS_LOST})
    nvml = driver(MadeUpCard("GPU-a"), broken)
    assert [d.id for d in find_devices("cuda", cards=nvml, environment={"CUDA_VISIBLE_DEVICES": "0"})] == ["GPU-a"]


def test_a_card_without_a_handle_leaves_the_others_and_their_numbers(driver):
    nvml = driver(MadeUpCard("GPU-a", faults={"nvmlDeviceGetHandleByIndex": pynvml.NVML_ERROR_UNKNOWN}), MadeUpCard("GPU-b"))
    assert [d.id for d in find_devices("cuda", cards=nvml, environment={})] == ["GPU-b"]
    assert [d.id for d in find_devices("cuda", cards=nvml, environment={"CUDA_VISIBLE_DEVICES": "1"})] == ["GPU-b"]


def test_where_only_broken_cards_are_shown_their_faults_are_told(driver):
    nvml = driver(MadeUpCard("GPU-a", faults={"nvmlDeviceGetUUID": pynvml.NVML_ERROR_GPU_IS_LOST}))
    with pytest.raises(BackendUnavailable, match="GPU is lost"):
        find_devices("cuda", cards=nvml, environment={})


def test_a_card_that_shares_the_hosts_memory_has_its_figures(driver):
    nvml = driver(MadeUpCard("GPU-a", faults={"nvmlDeviceGetMemoryInfo": pynvml.NVML_ERROR_NOT_SUPPORTED}))
    (device,) = find_devices("cuda", cards=nvml, environment={})
    assert device.memory_bytes > GIB // 2
    total, free = nvml.memory("GPU-a")
    assert 0 < free <= total == device.memory_bytes


def test_a_card_that_vanishes_is_lost_and_one_odd_answer_is_none(driver):
    card = MadeUpCard("GPU-a")
    nvml = driver(card)
    card.faults["nvmlDeviceGetMemoryInfo"] = pynvml.NVML_ERROR_GPU_IS_LOST
    with pytest.raises(DeviceLost, match=r"no longer answers for card GPU-a: .*lost"):
        nvml.memory("GPU-a")
    card.faults = {"nvmlDeviceGetHandleByUUID": pynvml.NVML_ERROR_NOT_FOUND}
    with pytest.raises(DeviceLost):
        nvml.memory("GPU-a")
    assert nvml.processes("GPU-a") is None
    assert nvml.busy_share("GPU-a") is None

    card.faults, card.hiccups = {}, ["nvmlDeviceGetMemoryInfo"]
    assert nvml.memory("GPU-a") == (8 * GIB, 8 * GIB)
    assert card.hiccups == []


MIXED = (Card("GPU-small", 0, "T4", 16 * GIB), Card("GPU-large", 1, "H100", 80 * GIB), Card("GPU-old", 2, "P100", 16 * GIB))


class Fixed:
    def cards(self):
        return list(MIXED)


def shown(mask, order, **environment):
    found = find_devices("cuda", cards=Fixed(), environment={"CUDA_VISIBLE_DEVICES": mask, **environment}, order=lambda _: order)
    return [device.id for device in found]


def test_a_number_in_the_mask_is_cudas_which_begins_with_the_fastest_card():
    fastest_first = ["GPU-large", "GPU-small", "GPU-old"]
    assert shown("0", fastest_first) == ["GPU-large"]
    assert shown("1,0", fastest_first) == ["GPU-small", "GPU-large"]
    assert shown("GPU-old,0", fastest_first) == ["GPU-old", "GPU-large"]


def test_a_number_is_the_pci_slots_where_the_user_says_so_or_cuda_cannot_be_asked():
    fastest_first = ["GPU-large", "GPU-small", "GPU-old"]
    assert shown("0", fastest_first, CUDA_DEVICE_ORDER="PCI_BUS_ID") == ["GPU-small"]
    assert shown("0", []) == ["GPU-small"]


def test_a_card_that_cuda_does_not_see_has_no_number(caplog):
    assert shown("1", ["GPU-large", "GPU-small"]) == ["GPU-large"]
    assert "how CUDA numbers them is not known" in caplog.text


def lose(bench, uuid):
    """From now on the driver says that the card is lost."""

    def lost(asked):
        if asked == uuid:
            raise DeviceLost(f"the driver no longer answers for card {uuid}: GPU is lost")
        return real(asked)

    real, bench.cards.memory = bench.cards.memory, lost


@pytest.mark.parametrize("step", [["sleep", 0.6], ["raise", "RuntimeError", "CUDA error: unspecified launch failure"], ["kill"]])
def test_a_card_lost_in_the_middle_is_fenced_and_the_rest_goes_on(bench, step):
    bench.with_cards(8, 8)

    def on_claimed(event):
        if event["device"] == "GPU-0" and not bench.events.of("fenced") and not lost:
            lost.append(event["item"])
            lose(bench, "GPU-0")

    lost = []
    bench.events.on["claimed"] = on_claimed
    items = [
        item(f"v{number}", step if number < 2 else ["sleep", 0.1], ["sleep", 0.1], size=2.0 - number / 10) for number in range(10)
    ]
    if step[0] == "sleep":
        items = plain(10, *step)
    report = bench.run(items, workers=1, timing=dataclasses.replace(QUICK, sample=0.05))
    assert report.stopped is None, report.text
    assert len(report.outcomes) == 10
    assert {outcome.kind for outcome in report.outcomes.values()} == {"done"}
    assert report.outcomes[lost[0]].attempts == 1
    (fenced,) = bench.events.of("fenced")
    assert (fenced["device"], "GPU is lost" in fenced["text"]) == ("GPU-0", True)
    assert bench.ledger.claims == []


def test_when_every_card_is_lost_the_pool_stops_and_nothing_is_charged(bench):
    bench.with_cards(8)
    bench.events.on["claimed"] = lambda event: lose(bench, "GPU-0")
    report = bench.run(plain(3, "sleep", 600.0), timing=dataclasses.replace(QUICK, sample=0.05))
    assert (report.stopped, report.outcomes) == ("backend", {})
    assert "GPU is lost" in report.text
    assert bench.ledger.claims == []


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: no kernel image is available for execution on the device",
        "The NVIDIA driver on your system is too old (found version 11040)",
        "CUDA driver version is insufficient for CUDA runtime version",
    ],
)
def test_software_that_does_not_fit_a_card_is_the_machines_fault_and_no_items(bench, text):
    bench.with_cards(8, 8)
    report = bench.run(plain(6, "lose_card", "GPU-0", text), workers=1)
    assert report.stopped is None, report.text
    assert [(o.kind, o.attempts) for o in report.outcomes.values()] == [("done", 1)] * 6
    assert [event["device"] for event in bench.events.of("fenced")] == ["GPU-0"]
    alone = bench.run(plain(2, "raise", "Crash", f"RuntimeError: {text}", prefix="later"), devices=bench.cards.devices()[:1])
    assert (alone.stopped, alone.outcomes) == ("backend", {})
    assert text in alone.text
    assert bench.ledger.claims == []


FULL_CARD_TEXTS = [
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "GET was unable to find an engine to execute this computation",
]


@pytest.mark.parametrize("text", FULL_CARD_TEXTS)
def test_a_handle_that_does_not_fit_a_full_card_is_out_of_memory(bench, text):
    bench.with_cards(8)
    report = bench.run([item("a", ["vram_then_raise", 6.8, "RuntimeError", text], ["vram", 1.0])], told={"load": ["vram", 1.0]})
    assert (report.outcomes["a"].kind, report.outcomes["a"].attempts) == ("done", 1)
    assert len(bench.events.of("oom")) == 1


@pytest.mark.parametrize("text", FULL_CARD_TEXTS)
def test_the_same_on_an_empty_card_is_an_error(bench, text):
    bench.with_cards(8)
    report = bench.run([item("a", ["raise", "RuntimeError", text])])
    assert report.outcomes["a"].kind == "error"
    assert bench.events.of("oom") == []


def test_few_items_are_spread_over_the_cards(bench):
    """With figures of an earlier run, each card alone could take them all."""
    bench.with_cards(24, 24, 24, 24)
    history = bench.folder / "history.json"
    bench.run([item(f"first{number}", ["vram", 1.0, 0.2]) for number in range(6)], history=history)
    bench.events.seen.clear()
    report = bench.run([item(f"v{number}", ["vram", 1.0, 0.5]) for number in range(4)], history=history)
    assert {outcome.kind for outcome in report.outcomes.values()} == {"done"}
    device_of = {event["worker"]: event["device"] for event in bench.events.of("spawned")}
    assert sorted(device_of.values()) == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]


def test_any_device_is_a_card_where_one_may_be_used_and_else_the_processor(driver, monkeypatch):
    driver(MadeUpCard("GPU-a"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [device.id for device in devices_for("any", 3)] == ["GPU-a"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (device,) = devices_for("any", 3)
    assert (device.kind, device.cores) == ("cpu", 3)
    with pytest.raises(BackendUnavailable):
        devices_for("cuda", 3)
