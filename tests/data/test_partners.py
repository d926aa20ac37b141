"""Two pictures of every sample, as NLVR2 is learnt: the left ones of a batch first, the right ones behind them."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch

from blip.data.images import normalise, preprocess
from blip.data.loader import Batch, PairLoader
from blip.data.pairs import PairsDataset, PairsWriter, Sample
from blip.errors import BlipError

from .conftest import draw, encoded

COUNT = 12


@pytest.fixture
def two_pictures(tmp_path: Path) -> PairsDataset:
    """Samples n with pictures n and 100 + n."""
    with PairsWriter(tmp_path / "pairs", samples_per_shard=3, parents=[], parameters={}) as writer:
        for n in range(COUNT):
            left, right = encoded(draw(n)), encoded(draw(100 + n))
            writer.add(Sample(f"{n}", left, "png", partner=right, partner_extension="png"))
    return PairsDataset.open(tmp_path / "pairs")


def loader_of(dataset: PairsDataset, **options: object) -> PairLoader:
    values: dict = {"batch_size": 4, "image_size": 16, "seed": 7, "partners": True} | options
    return PairLoader([(dataset, frozenset())], **values)


def take(loader: PairLoader, count: int) -> list[Batch]:
    return list(islice(iter(loader), count))


def whole(seed: int) -> torch.Tensor:
    """The picture of that seed as a loader without augmentation makes it."""
    return preprocess([encoded(draw(seed))], 16)[0]


def nearest(image: torch.Tensor) -> int:
    """Which of all the pictures it is."""
    seeds = [*range(COUNT), *range(100, 100 + COUNT)]
    distances = [(normalise(image[None])[0] - whole(seed)).abs().mean() for seed in seeds]
    return seeds[int(torch.stack(distances).argmin())]


@pytest.mark.parametrize("workers", [0, 2])
def test_partners_stand_behind_the_pictures_of_the_samples(two_pictures: PairsDataset, workers: int) -> None:
    loader = loader_of(two_pictures, workers=workers, crop_scale=(1.0, 1.0), flip=False)
    for batch in take(loader, 3):
        assert batch.images.shape == (8, 3, 16, 16)
        numbers = [int(sample.key) for sample in batch.samples]
        assert [nearest(image) for image in batch.images] == numbers + [100 + n for n in numbers]
        assert all(not sample.media and sample.partner is None for sample in batch.samples)
        assert len(batch.image_ids) == 4


@pytest.mark.parametrize("lanes", [None, 4])
def test_pairs_repeat_with_workers_and_without_and_are_cropped_apart(
    two_pictures: PairsDataset, lanes: int | None
) -> None:
    options = {"crop_scale": (0.3, 1.0), "randaugment": True, "lanes": lanes}
    one, other = (take(loader_of(two_pictures, workers=workers, **options), 6) for workers in (0, 2))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.images, b.images)
        assert a.rng_of(3).random() == b.rng_of(3).random()


def test_a_sample_with_one_picture_is_named_with_the_way_out(
    make_dataset: Callable[..., PairsDataset],
) -> None:
    with pytest.raises(BlipError, match=r"pairs, sample key-0000\d has one picture.*kind: nlvr2"):
        take(loader_of(make_dataset()), 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_with_a_partner_that_cannot_be_read_its_sample_gives_way(tmp_path: Path, workers: int) -> None:
    with PairsWriter(tmp_path / "pairs", samples_per_shard=2, parents=[], parameters={}) as writer:
        for n in range(4):
            right = b"no picture" if n == 2 else encoded(draw(100 + n))
            writer.add(Sample(f"{n}", encoded(draw(n)), "png", partner=right, partner_extension="png"))
    dataset = PairsDataset.open(tmp_path / "pairs")
    (batch,) = take(loader_of(dataset, workers=workers, crop_scale=(1.0, 1.0), flip=False), 1)
    numbers = [int(sample.key) for sample in batch.samples]
    assert sorted(numbers) == [0, 1, 3, 3] and [one.key for one in batch.unreadable] == ["2"]
    assert [nearest(image) for image in batch.images] == numbers + [100 + n for n in numbers]
