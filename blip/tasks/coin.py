"""How often a coin makes a gain as large: the exact test of two models on the same items (Fisher, 1935).

    coin_chance([1, 1, 1, 1, 0, 0])             # 0.125: four times heads, or four times tails

Of models that are equally good either may be ahead on an item, as a coin falls. Where every item that differs counts
one, it is the sign test, which is McNemar's.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def coin_chance(gains: Sequence[int] | NDArray[np.integer]) -> float:
    """The probability of a total as far from 0, were the sign of each gain thrown; 1 where all are 0."""
    from scipy.stats import binom

    sizes, counts = np.unique(np.abs(gains), return_counts=True)
    ahead = np.ones(1)  # the probability of every sum of the gains that are thrown to be positive
    for size, count in zip(sizes, counts, strict=True):
        if size:
            of_size = np.zeros(size * count + 1)
            of_size[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
            ahead = np.convolve(ahead, of_size)
    most = int((sizes * counts).sum())
    fewer = (most - abs(int(np.sum(gains)))) // 2
    return min(1.0, 2 * float(ahead[: fewer + 1].sum()))
