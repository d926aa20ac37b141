"""Intervals of gains over test items, against drawing them one by one and the formula for many."""

import numpy as np
import pytest

from blip.tasks.resampling import gain_interval


def hits(share: float, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(count) < share


def test_the_interval_is_that_of_test_sets_drawn_item_by_item():
    before, after = hits(0.4, 60, 1), hits(0.6, 60, 2)
    gain = after.astype(float) - before
    rng = np.random.default_rng(3)
    drawn = [gain[rng.integers(60, size=60)].mean() for _ in range(20_000)]
    assert gain_interval(before, after) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)


def test_the_interval_lies_about_the_gain():
    before, after = hits(0.4, 60, 1), hits(0.6, 60, 2)
    low, high = gain_interval(before, after)
    assert low < after.mean() - before.mean() < high
    assert gain_interval(after, before) == pytest.approx((-high, -low), abs=1.5 / 60)


def test_many_items_have_the_interval_of_a_normal_distribution():
    before, after = hits(0.5, 4000, 1), hits(0.55, 4000, 2)
    deviation = (after.astype(float) - before).std() / 4000**0.5
    low, high = gain_interval(before, after)
    assert (high - low) / 2 == pytest.approx(1.96 * deviation, rel=0.03)


def test_items_that_are_hit_by_both_make_no_width():
    """Two models of one share are far apart where each finds other items, and not where both find the same."""
    same = hits(0.5, 100, 1)
    assert gain_interval(same, same) == (0.0, 0.0)
    low, high = gain_interval(same, ~same)
    assert high - low > 0.3


def test_the_same_seed_gives_the_same_interval():
    before, after = hits(0.4, 50, 1), hits(0.5, 50, 2)
    assert gain_interval(before, after) == gain_interval(before, after)


@pytest.mark.parametrize(("before", "after"), [([1.0], [1.0, 0.0]), ([], [])])
def test_scores_of_other_items_are_refused(before: list[float], after: list[float]):
    with pytest.raises(ValueError, match="a score of each item is wanted"):
        gain_interval(before, after)
