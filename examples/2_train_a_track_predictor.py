"""Train a tiny predictor of where points go, from one image. Needs torch.

``python examples/2_train_a_track_predictor.py output/h5_dataset``
"""

from __future__ import annotations

import sys

import torch
from torch import nn

from videolift.reader import Normalization, Selection, open_dataset
from videolift.reader.torch_dataset import Batch, training_loader


class TrackPredictor(nn.Module):
    """An image and query points to displacements (B, L, N, 3): what the image shows at a point tells where it goes."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        layers = [nn.Conv2d(3 if i == 0 else 32, 32, 5, stride=2, padding=2) for i in range(4)]
        self.image = nn.Sequential(*(nn.Sequential(layer, nn.GELU()) for layer in layers))
        self.points = nn.Sequential(nn.Linear(32 + 3, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, steps * 3))

    def forward(self, rgb: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """``rgb`` (B, 3, S, S), ``query`` (B, N, 3) whose u and v run from 0 to 1."""
        at = 2 * query[:, :, None, :2] - 1
        seen = nn.functional.grid_sample(self.image(rgb), at, align_corners=False)[..., 0].transpose(1, 2)
        out = self.points(torch.cat([seen, query], -1))
        return out.unflatten(-1, (self.steps, 3)).transpose(1, 2)


def loss_of(model: TrackPredictor, batch: Batch) -> torch.Tensor:
    """Mean squared error over points that are there."""
    error = (model(batch["rgb"][:, -1], batch["query"]) - batch["displacement"]) ** 2
    mask = batch["point_valid"][:, None, :, None].expand_as(error)
    return error[mask].mean()


@torch.no_grad()
def mean_loss(model: TrackPredictor, batches: list[Batch]) -> float:
    """Over the same batches before and after training: what is drawn differs from epoch to epoch."""
    return sum(float(loss_of(model, batch)) for batch in batches) / len(batches)


def main(folder: str, epochs: str = "4") -> None:
    """Trains on all windows; prints the loss before and after every epoch and fails if it did not fall."""
    torch.manual_seed(0)
    windows = open_dataset(folder, selection=Selection(points=64, depth=False))
    loader = training_loader(
        windows, batch_size=4, normalization=Normalization.fit(windows), num_workers=2, persistent_workers=True
    )
    judged = list(loader)[:6]
    model = TrackPredictor(windows[0]["displacement"].shape[0])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = [mean_loss(model, judged)]
    print(f"before: loss {losses[0]:.4f}")
    for epoch in range(int(epochs)):  # every pass draws other points: the epoch travels with the index
        for batch in loader:
            loss = loss_of(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(mean_loss(model, judged))
        print(f"epoch {epoch}: loss {losses[-1]:.4f}")
    if losses[-1] >= losses[0]:
        sys.exit("the loss did not fall")


if __name__ == "__main__":
    main(*sys.argv[1:])
