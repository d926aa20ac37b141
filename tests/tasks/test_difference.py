"""Differences and the queries that one model alone gets right, against counting one by one."""

import numpy as np
import pytest
import torch
import transformers

from blip.clip import Clip
from blip.model.api import Blip
from blip.tasks.comparison import Answers, Cost, Evaluated, How, evaluate
from blip.tasks.difference import compare, difference
from blip.tasks.gallery import Queries
from blip.tasks.resampling import DRAWS
from blip.tasks.retrieval import QueryRanks
from tests import tiny_clip


def hits(share: float, count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(count) < share)


def test_gain_interval_and_counts_are_those_of_a_loop():
    first, other = hits(0.4, 80, 1), hits(0.55, 80, 2)
    found = difference("i2t_r1", first, other)
    pairs = list(zip(first.tolist(), other.tolist(), strict=True))
    assert found.only_first == sum(1 for a, b in pairs if a and not b)
    assert found.only_other == sum(1 for a, b in pairs if b and not a)
    assert found.gain == pytest.approx((found.only_other - found.only_first) / 80)
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(DRAWS):
        picked = [pairs[row] for row in rng.integers(80, size=80)]
        drawn.append(sum(b - a for a, b in picked) / 80)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.014)


def test_the_captions_of_a_picture_are_drawn_together():
    """Five captions that all say the same are one chance: the interval is that of the pictures, not a half of it."""
    first, other = hits(0.4, 80, 1), hits(0.55, 80, 2)
    by_picture = difference("i2t_r1", first, other)
    picture = torch.arange(80).repeat_interleave(5)
    five = difference("t2i_r1", first.repeat_interleave(5), other.repeat_interleave(5), picture)
    assert (five.gain, five.low, five.high) == pytest.approx(
        (by_picture.gain, by_picture.low, by_picture.high)
    )
    alone = difference("t2i_r1", first.repeat_interleave(5), other.repeat_interleave(5))
    assert alone.high - alone.low < 0.6 * (five.high - five.low)


@pytest.mark.parametrize(("share", "within"), [(0.42, True), (0.8, False), (0.05, False)])
def test_a_difference_is_within_chance_where_its_interval_holds_none(share: float, within: bool):
    found = difference("t2i_r1", hits(0.4, 120, 1), hits(share, 120, 2))
    assert found.within_chance is within is (found.low <= 0 <= found.high) is (found.coin > 0.05)


@pytest.mark.parametrize(
    ("first", "other", "coin"), [(0, 4, 0.125), (0, 5, 0.0625), (1, 7, 0.0703125), (0, 6, 0.03125)]
)
def test_a_few_queries_that_a_coin_could_have_given_are_within_chance(first: int, other: int, coin: float):
    """Of 424 pictures; the bootstrap draws none of so few, or draws them all to one side."""
    place = torch.arange(424)
    found = difference("i2t_r1", place < first, (place >= 100) & (place < 100 + other))
    assert found.low > 0
    assert found.coin == pytest.approx(coin)
    assert found.within_chance is (coin > 0.05)


def test_the_captions_of_a_picture_are_one_throw():
    """Twenty captions that all say the same of four pictures are four throws."""
    captions = torch.arange(424 * 5)
    found = difference("t2i_r1", captions < 0, captions < 20, captions // 5)
    assert (found.only_other, found.coin) == (20, pytest.approx(0.125))


def test_the_same_hits_differ_by_nothing():
    found = difference("top1", hits(0.4, 50, 1), hits(0.4, 50, 1))
    assert (found.gain, found.low, found.high, found.only_first, found.only_other) == (0, 0, 0, 0, 0)
    assert found.within_chance


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    transformers.logging.set_verbosity_error()
    return Clip.open(tiny_clip.save(tmp_path_factory.mktemp("clip"), tiny_clip.processor_of()))


@pytest.fixture
def evaluated(tiny_blip: Blip, clip: Clip, painted, colours) -> dict[str, Evaluated]:
    samples = [painted(f"k{n}", colour, [f"something {colour}"]) for n, colour in enumerate(colours)]
    labels = {f"k{n}": colour for n, colour in enumerate(colours)}
    blip, plain = (evaluate(tiny_blip, samples, How(rerank=size), labels) for size in (4, 0))
    return {"blip": blip, "plain": plain, "clip": evaluate(clip, samples, How(rerank=0), labels)}


def heads(models: dict[str, Evaluated]) -> list[tuple[str, str, str]]:
    return [(one.first_head, one.other, one.other_head) for one in compare(models)]


def test_heads_are_beside_their_like_or_beside_both_where_a_model_has_one(evaluated: dict[str, Evaluated]):
    blip, clip = evaluated["blip"], evaluated["clip"]
    assert heads({"a": blip, "b": blip}) == [("itc", "b", "itc"), ("itm", "b", "itm")]
    assert heads({"a": blip, "c": clip}) == [("itc", "c", "itc"), ("itm", "c", "itc")]
    assert heads({"c": clip, "a": blip}) == [("itc", "a", "itc"), ("itc", "a", "itm")]
    assert heads({"c": clip, "p": evaluated["plain"]}) == [("itc", "p", "itc")]


def test_gains_are_those_of_the_figures(evaluated: dict[str, Evaluated]):
    for one in compare(evaluated):
        before, after = evaluated["blip"].heads[one.first_head], evaluated[one.other].heads[one.other_head]
        gains = {found.measure: found.gain for found in one.differences}
        classes = {"top1", "top5"} if one.first_head == one.other_head == "itc" else set()
        assert gains.keys() == before.recalls.keys() | classes
        for measure, value in before.recalls.items():
            assert gains[measure] == pytest.approx(after.recalls[measure] - value)


def test_captions_are_drawn_with_their_picture_and_pictures_alone():
    """Five captions of a picture that all say the same give the interval of the pictures themselves."""
    picture = torch.arange(80).repeat_interleave(5)
    queries = Queries([f"k{n}" for n in range(80)], ["a text"], torch.zeros_like(picture), picture)

    def evaluated(right_N: torch.Tensor) -> Evaluated:
        ranks_N = torch.where(right_N, 1, 99)
        answers = Answers(QueryRanks(ranks_N, ranks_N[picture]), torch.zeros(80), torch.zeros(len(picture)))
        return Evaluated(queries, {"itc": answers}, None, Cost(0, 0))

    (one,) = compare({"a": evaluated(hits(0.4, 80, 1)), "b": evaluated(hits(0.55, 80, 2))})
    found = {difference.measure: (difference.low, difference.high) for difference in one.differences}
    assert found["t2i_r1"] == pytest.approx(found["i2t_r1"])


def test_a_model_against_itself_differs_by_nothing(evaluated: dict[str, Evaluated]):
    same = compare({"a": evaluated["blip"], "b": evaluated["blip"]})
    assert len(same) == 2
    for found in (found for one in same for found in one.differences):
        assert (found.gain, found.low, found.high, found.only_first, found.only_other) == (0, 0, 0, 0, 0)
        assert found.within_chance
