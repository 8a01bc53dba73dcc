"""Mix two datasets by weights, change the weights during training, resume. ``python examples/3_mix_two_datasets.py A B``"""

from __future__ import annotations

import sys
from collections import Counter

from videolift.reader import Ingredient, Mixture, MixtureSampler, Normalization, Selection, open_dataset


def make(folders: list[str]) -> Mixture:
    """Each dataset keeps its own normalization."""
    ingredients = []
    for number, folder in enumerate(folders):
        windows = open_dataset(folder, selection=Selection(points=32))
        ingredients.append(Ingredient(f"{number}:{folder}", windows, 0.7 if number == 0 else 0.3, Normalization.fit(windows)))
    return Mixture(ingredients, seed=0)


def main(*folders: str) -> None:
    """Draws 400 samples on two ranks, changes the weights after 200, and resumes in the middle."""
    mixture = make(list(folders))
    names = [ingredient.name for ingredient in mixture.ingredients]
    print(mixture.describe(1000))

    samplers = [MixtureSampler(make(list(folders)), rank=rank, ranks=2, length=200) for rank in range(2)]
    drawn: Counter[str] = Counter()
    for sampler in samplers:
        sampler.reweight(dict(zip(names, (0.1, 0.9), strict=True)), at=200)  # every rank says the same
        for draw in sampler:
            drawn[sampler.mixture.open(draw.index, epoch=draw.epoch)["dataset"]] += 1
    expected = samplers[0].mixture.counts(400)
    print(f"drawn {dict(drawn)}, expected {expected}")
    if dict(drawn) != expected:
        sys.exit("what was drawn is not what was asked for")

    whole = list(MixtureSampler(make(list(folders)), length=100))
    first = MixtureSampler(make(list(folders)), length=60)
    trained_on = list(first)[:40]  # 20 more were only fetched ahead when training stopped
    resumed = MixtureSampler(make(list(folders)), length=60)
    resumed.load_state_dict(first.state_dict(len(trained_on)))
    if trained_on + list(resumed) != whole:
        sys.exit("the resumed run drew something else")
    print("resumed after 40 samples: the same draws as without a stop")


if __name__ == "__main__":
    main(*sys.argv[1:])
