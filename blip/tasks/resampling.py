"""How far a gain on one test set may be off: a bootstrap of its items, in pairs (Efron and Tibshirani, 1993).

    gain_half_width(before_N, after_N)          # 0.046: a gain of 12.5 points is 12.5 ± 4.6
    gain_interval(before_N, after_N)            # (0.080, 0.172)

It tells what other test items would have given, and nothing of what another seed of the training would have.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
EDGES = (0.025, 0.975)


Scores = Sequence[float] | NDArray[np.generic]


def gain_half_width(before_N: Scores, after_N: Scores, seed: int = 0) -> float:
    """Half the width of `gain_interval`."""
    low, high = gain_interval(before_N, after_N, seed)
    return (high - low) / 2


def gain_interval(before_N: Scores, after_N: Scores, seed: int = 0) -> tuple[float, float]:
    """The 95% interval of the mean gain, by the percentiles of `DRAWS` drawn test sets.

    Args:
        before_N: what each test item scored, such as 1 for a hit and 0 for a miss.
        after_N: what the same items scored afterwards, in the same order.

    Raises:
        ValueError: the two are not of the same items, or of none.
    """
    before, after = (np.asarray(scores, dtype=np.float64) for scores in (before_N, after_N))
    if before.shape != after.shape or before.ndim != 1 or not len(before):
        raise ValueError(f"a score of each item is wanted, the shapes are {before.shape} and {after.shape}")
    gains, counts = np.unique(after - before, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(before), counts / len(before), size=DRAWS)
    low, high = np.quantile(drawn @ gains / len(before), EDGES)
    return float(low), float(high)
