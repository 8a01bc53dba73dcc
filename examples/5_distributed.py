"""Two processes train together (gloo, CPU), stop in mid-epoch, and go on. ``python examples/5_distributed.py output/h5_dataset``"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from videolift.reader import Selection, open_dataset
from videolift.reader.torch_dataset import training_loader

RANKS, BATCH = 2, 4


def train(rank: int, folder: str, work: str, run: int, first: int, last: int) -> None:
    """Batches ``first`` to ``last`` on one rank; the state is written after the last, and read where there is one."""
    dist.init_process_group("gloo", init_method=f"file://{work}/rendezvous{run}", rank=rank, world_size=RANKS)
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    windows = open_dataset(folder, selection=Selection(points=16, rgb=False, depth=False))
    loader = training_loader(windows, batch_size=BATCH, rank=rank, ranks=RANKS, batches=last - first, num_workers=1)
    saved = Path(work) / "state.pt"
    if first:
        state: dict[str, Any] = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        loader.sampler.load_state_dict(state["sampler"])
    seen = []
    for batch in loader:
        loss = (model(batch["query"]) - batch["displacement"][:, -1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += [f"{video}/{int(frame)}" for video, frame in zip(batch["video"], batch["frame"], strict=True)]
    if rank == 0:
        # whatever workers fetched ahead does not count: only what was trained on
        torch.save({"model": model.state_dict(), "sampler": loader.sampler.state_dict((last - first) * BATCH)}, saved)
    (Path(work) / f"seen-{run}-{rank}").write_text("\n".join(seen))
    dist.destroy_process_group()


def main(folder: str) -> None:
    """Six batches in one go, and three and three with a stop: the same samples, and no sample on both ranks."""
    with tempfile.TemporaryDirectory() as work:
        for run, (first, last) in enumerate(((0, 6), (0, 3), (3, 6))):
            mp.spawn(train, (folder, work, run, first, last), nprocs=RANKS)
        seen = {(run, rank): (Path(work) / f"seen-{run}-{rank}").read_text().split() for run in range(3) for rank in range(RANKS)}
    for rank in range(RANKS):
        if seen[0, rank] != seen[1, rank] + seen[2, rank]:
            sys.exit(f"rank {rank} saw other samples after the stop")
    if set(seen[1, 0]) & set(seen[1, 1]):
        sys.exit("a sample was seen by both ranks")
    print(f"{sum(map(len, (seen[0, 0], seen[0, 1])))} samples on {RANKS} ranks, none twice; resumed as if never stopped")


if __name__ == "__main__":
    main(*sys.argv[1:])
