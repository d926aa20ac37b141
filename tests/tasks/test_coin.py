"""How often a coin makes a gain as large, against throwing it in every way there is."""

from itertools import product

import numpy as np
import pytest

from blip.tasks.coin import coin_chance


@pytest.mark.parametrize(
    "gains",
    [
        [1, 1, 1, 1, 0, 0],
        [1, -1, 1, 1, 1],
        [5, -1, -1, -2],
        [3, 3, -1, 0, 2, 2, -5],
        [-4, -1, -1],
        [1, -1],
        [2],
    ],
)
def test_it_is_the_share_of_all_throws_that_come_as_far(gains: list[int]):
    thrown = [
        sum(s * g for s, g in zip(signs, gains, strict=True)) for signs in product((1, -1), repeat=len(gains))
    ]
    as_far = sum(abs(total) >= abs(sum(gains)) for total in thrown)
    assert coin_chance(gains) == pytest.approx(as_far / len(thrown))


def test_nothing_is_always_made():
    assert coin_chance([0, 0, 0]) == coin_chance([]) == 1.0


def test_many_items_have_a_chance_that_agrees_with_the_normal_curve():
    rng = np.random.default_rng(3)
    gains = rng.choice([-3, -2, -1, 0, 1, 2, 3], p=[0.03, 0.05, 0.1, 0.62, 0.11, 0.06, 0.03], size=20_000)
    z = abs(gains.sum()) / np.sqrt((gains**2).sum())
    from scipy.stats import norm

    assert coin_chance(gains) == pytest.approx(2 * norm.sf(z), rel=0.05)
