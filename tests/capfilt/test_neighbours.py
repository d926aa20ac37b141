"""What similar pictures say of a text, against asking them one by one, and the pool as it is written down."""

import math
from pathlib import Path

import pytest
import torch

from blip.capfilt.embedding import embed_pool
from blip.capfilt.identity import LOOK, Identity
from blip.capfilt.inputs import Models, Pairs
from blip.capfilt.neighbours import WIDTH, Neighbours
from blip.capfilt.pictures import look
from blip.data.jobs import open_pool
from blip.data.pairs import PairsDataset
from blip.data.sample import stable_id
from tests import tiny

from .conftest import save, strangers, write

KEYS = ("a", "b", "c", "d")


def random(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(len(size) + sum(size)))


def unit(row: torch.Tensor) -> torch.Tensor:
    return row / row.norm()


def test_the_support_is_what_asking_every_other_picture_gives() -> None:
    pool, texts, pictures, asked = random(4, 6), random(4, 6) + 1, random(3, 6), random(5, 6)
    index = torch.tensor([0, 0, 1, 2, 2])
    near = Neighbours.of(strangers(KEYS), pool, texts)
    found = near.support(pictures, near.own(strangers(("b", "x", "d"))), asked, index)
    for n, text in enumerate(asked):
        picture, own = pictures[index[n]], ("b", "x", "d")[index[n]]
        others = [m for m in range(4) if KEYS[m] != own]
        like = [math.exp(unit(picture - pool.mean(0)) @ unit(pool[m] - pool.mean(0)) / WIDTH) for m in others]
        same = [math.exp(unit(text - texts.mean(0)) @ unit(texts[m] - texts.mean(0)) / WIDTH) for m in others]
        theirs = sum(one * two for one, two in zip(like, same, strict=True)) / sum(like)
        assert found[n].item() == pytest.approx(math.log(theirs / (sum(same) / len(same))), abs=1e-4)


def test_a_text_that_like_pictures_share_is_supported_and_another_is_not() -> None:
    kinds = torch.eye(4)[[0, 0, 0, 1, 1, 1, 2, 2, 2]]
    near = Neighbours.of(strangers("abcdefghi"), kinds, kinds)
    said = near.support(kinds[:1], near.own(strangers("a")), torch.eye(4)[[0, 1]], torch.tensor([0, 0]))
    assert said[0] > 0.5
    assert said[1] < 0


def test_with_no_other_picture_to_ask_nothing_is_said() -> None:
    alone = Neighbours.of(strangers("a"), random(1, 6), random(1, 6))
    said = alone.support(random(1, 6), alone.own(strangers("a")), random(2, 6), torch.tensor([0, 0]))
    assert said.tolist() == [0.0, 0.0]


def test_the_pool_is_embedded_by_every_filter_each_picture_with_its_first_text(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    two = Models(models.captioner, (*models.filters, save(tmp_path / "other", 3)))
    embed_pool(Pairs(web.path), two, 3, tmp_path / "pool")
    samples = [sample for sample in web.samples() if sample.captions[0].text]
    for number, model in enumerate((tiny.blip(2), tiny.blip(3))):
        near = Neighbours.read(tmp_path / "pool", number, torch.device("cpu"))
        assert near is not None
        assert near.identity.keys.tolist() == [stable_id(sample.key) for sample in samples]
        seen = look([sample.media for sample in samples], [LOOK])[LOOK]
        assert near.own(Identity.of(map(str, range(len(seen))), seen)).equal(torch.eye(len(seen)).bool())
        pictures = model.embed_images([sample.media for sample in samples])
        expected = Neighbours.of(
            near.identity, pictures, model.embed_texts([s.captions[0].text for s in samples])
        )
        assert torch.allclose(near.pictures, expected.pictures, atol=1e-4)
        assert torch.allclose(near.texts, expected.texts, atol=1e-4)


def test_two_workers_embed_what_one_does_and_leave_out_a_damaged_shard(
    models: Models, tmp_path: Path
) -> None:
    web = write(tmp_path / "web", "web", ["red apple", "the dog", "green"] * 5, "web")
    (web.path / web.manifest.shards[1].url).write_bytes(b"no shard")
    embed_pool(Pairs(web.path), models, 3, tmp_path / "one")
    with open_pool(workers=2) as pool:
        embed_pool(Pairs(web.path), models, 3, tmp_path / "two", pool)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    near = Neighbours.read(tmp_path / "one", 0, torch.device("cpu"))
    assert near is not None and len(near.identity.keys) == 15 - 4


def test_a_pool_without_any_text_has_no_neighbours(models: Models, tmp_path: Path) -> None:
    web = write(tmp_path / "web", "web", ["", ""], "web")
    embed_pool(Pairs(web.path), models, 3, tmp_path / "pool")
    assert Neighbours.read(tmp_path / "pool", 0, torch.device("cpu")) is None


def test_what_is_read_keeps_no_hold_of_its_file(web: PairsDataset, models: Models, tmp_path: Path) -> None:
    """A file that is mapped leaves another in its folder when it is removed on NFS, and the folder stays."""
    embed_pool(Pairs(web.path), models, 3, tmp_path / "pool")
    near = Neighbours.read(tmp_path / "pool", 0, torch.device("cpu"))
    assert near is not None and len(near.identity.keys)
    assert str(tmp_path / "pool") not in Path("/proc/self/maps").read_text()
