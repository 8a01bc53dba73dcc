"""Random worlds for the simulator: cards, models, items, tenants and misfortune, drawn from a seed.

The ranges below were fixed before the sizing rules were tuned, and so was how a run is judged. Seeds 0-999 are for tuning,
10,000-10,999 for judging. The number that a run chose on a device is the one under which most item-seconds of work were done
there. The best fixed numbers in hindsight are those n (all workers started at once on every device, at most what truly fits there)
whose time from start to end, loading included, is within 2 % of the shortest. A choice is good when within one of one of them.
A world is data only; `play.simulate` plays it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

GIB = 2**30

# Cards and hosts that people have.
CARD_GIB = (8, 12, 16, 24, 24, 24, 32, 40, 48, 80, 80, 141)
CARD_COUNTS = (1, 1, 1, 1, 1, 2, 2, 4)
UNEQUAL_CARDS = 0.2
HOST_GIB = (16, 32, 64, 64, 128, 256, 512)
HOST_CORES = (4, 8, 8, 16, 16, 32, 64, 128)
CPU_WORLDS = 0.2

# Items: how many, and how long (frames).
ITEMS = (1, 400)
MEDIAN_FRAMES = (100, 5_000)
FRAMES_SIGMA = (0.0, 1.0)

# The model: memory of a loaded worker, of an item on top of it, in host memory; seconds.
LOADED_GIB = (0.3, 10.0)
ITEM_GIB = (0.3, 12.0)
MEMORY_EXPONENTS = (0.0, 0.0, 0.5, 1.0)
MEMORY_SIGMA = (0.0, 0.10)
HOST_LOADED_GIB = (0.3, 6.0)
LOAD_S = (2.0, 120.0)
MEDIAN_ITEM_S = (2.0, 600.0)
SECONDS_SIGMA = (0.02, 0.3)

# One worker keeps the card busy for this share of its time; each further one costs this share of everybody's speed.
BUSY_SHARE = (0.12, 1.0)
CONTENTION = (0.0, 0.03)

# Misfortune: chance that a world has it, and how bad it is.
LEAKY, LEAK_SHARE = 0.15, (0.005, 0.05)
TENANT, TENANT_SHARE = 0.2, (0.1, 0.6)
CRASHY, CRASH_CHANCE = 0.25, (0.001, 0.03)
POISONED, POISON_CHANCE = 0.15, (0.002, 0.02)


@dataclass(frozen=True)
class VirtualItem:
    """One item: its length, and what it takes when worked on alone.

    Attributes:
        frames: the size that the pool is told.
        seconds: of one worker alone on the device.
        peak_bytes: on the device, on top of a loaded worker.
        crashes: in how many of its first attempts its worker dies; a large number for poison.
    """

    frames: float
    seconds: float
    peak_bytes: int
    crashes: int


@dataclass(frozen=True)
class Tenant:
    """Somebody else's process on a card, from ``begin_s`` to ``end_s``."""

    card: int
    begin_s: float
    end_s: float
    bytes: int


@dataclass(frozen=True)
class World:
    """Everything that a simulated run meets.

    Attributes:
        seed: what it was drawn from.
        on_cpu: the device is the CPU, and device memory is host memory.
        card_bytes: memory per card; of the host for the CPU.
        host_bytes, cores: of the machine.
        loaded_bytes, host_loaded_bytes: of a loaded worker, on the device and in host memory.
        load_s: seconds from start to ready.
        busy_share, contention: see above.
        leak_share: of the item's peak, kept by the worker after each item.
        items, tenants: see there.
    """

    seed: int
    on_cpu: bool
    card_bytes: tuple[int, ...]
    host_bytes: int
    cores: int
    loaded_bytes: int
    host_loaded_bytes: int
    load_s: float
    busy_share: float
    contention: float
    leak_share: float
    items: tuple[VirtualItem, ...]
    tenants: tuple[Tenant, ...]

    def speed(self, workers: int) -> float:
        """Speed of each of so many busy workers on one device, 1 for a worker alone."""
        if workers == 0:
            return 0.0
        shared = min(1.0, 1.0 / (self.busy_share * workers))
        return shared * max(0.1, 1.0 - self.contention * (workers - 1))


def draw(seed: int) -> World:
    """The world of ``seed``. Every item fits alone on every card, or the world would be about quarantine, not about numbers."""
    rng = random.Random(seed)
    on_cpu = rng.random() < CPU_WORLDS
    host_bytes, cores = rng.choice(HOST_GIB) * GIB, rng.choice(HOST_CORES)
    cards = (host_bytes,) if on_cpu else _cards(rng)
    smallest = min(cards) / GIB - 1.5
    loaded = _scaled(_log_uniform(rng, LOADED_GIB), 0.4 * smallest)
    items = _items(rng, _scaled(_log_uniform(rng, ITEM_GIB), 0.5 * smallest), smallest - loaded)
    host_loaded = loaded if on_cpu else _scaled(_log_uniform(rng, HOST_LOADED_GIB), host_bytes / GIB / 4)
    expected_s = sum(item.seconds for item in items) / len(cards)
    return World(
        seed=seed,
        on_cpu=on_cpu,
        card_bytes=cards,
        host_bytes=host_bytes,
        cores=cores,
        loaded_bytes=int(loaded * GIB),
        host_loaded_bytes=int(host_loaded * GIB),
        load_s=_log_uniform(rng, LOAD_S),
        busy_share=1.0 / cores if on_cpu else rng.uniform(*BUSY_SHARE),
        contention=rng.uniform(*CONTENTION),
        leak_share=rng.uniform(*LEAK_SHARE) if rng.random() < LEAKY else 0.0,
        items=items,
        tenants=_tenants(rng, cards, smallest, loaded, items, expected_s) if rng.random() < TENANT else (),
    )


def _cards(rng: random.Random) -> tuple[int, ...]:
    count, size = rng.choice(CARD_COUNTS), rng.choice(CARD_GIB)
    unequal = rng.random() < UNEQUAL_CARDS
    return tuple((rng.choice(CARD_GIB) if unequal else size) * GIB for _ in range(count))


def _items(rng: random.Random, typical_gib: float, most_gib: float) -> tuple[VirtualItem, ...]:
    count = round(_log_uniform(rng, ITEMS))
    median, sigma = _log_uniform(rng, MEDIAN_FRAMES), rng.uniform(*FRAMES_SIGMA)
    exponent, memory_sigma = rng.choice(MEMORY_EXPONENTS), rng.uniform(*MEMORY_SIGMA)
    seconds, seconds_sigma = _log_uniform(rng, MEDIAN_ITEM_S), rng.uniform(*SECONDS_SIGMA)
    crash = rng.uniform(*CRASH_CHANCE) if rng.random() < CRASHY else 0.0
    poison = rng.uniform(*POISON_CHANCE) if rng.random() < POISONED else 0.0
    items = []
    for _ in range(count):
        length = math.exp(rng.gauss(0.0, sigma))
        gib = min(most_gib, typical_gib * length**exponent * math.exp(rng.gauss(0.0, memory_sigma)))
        crashes = 1_000 if rng.random() < poison else int(rng.random() < crash)
        items.append(
            VirtualItem(median * length, seconds * length * math.exp(rng.gauss(0.0, seconds_sigma)), int(gib * GIB), crashes)
        )
    return tuple(items)


def _tenants(
    rng: random.Random,
    cards: tuple[int, ...],
    smallest_gib: float,
    loaded_gib: float,
    items: tuple[VirtualItem, ...],
    expected_s: float,
) -> tuple[Tenant, ...]:
    """One tenant that comes before or during the run and stays or goes; it leaves room for one worker, so that the run can end."""
    needed = loaded_gib + max(item.peak_bytes for item in items) / GIB
    card = rng.randrange(len(cards))
    room = max(0.0, cards[card] / GIB - 1.5 - 1.3 * needed)
    taken = min(rng.uniform(*TENANT_SHARE) * cards[card] / GIB, room)
    begin = 0.0 if rng.random() < 0.4 else rng.uniform(0.0, 0.7) * expected_s
    end = math.inf if rng.random() < 0.5 else begin + rng.uniform(0.1, 0.6) * expected_s
    return (Tenant(card, begin, end, int(taken * GIB)),)


def _log_uniform(rng: random.Random, bounds: tuple[float, float]) -> float:
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))


def _scaled(gib: float, most: float) -> float:
    return min(gib, most)
