"""Where to cut: precision, recall and kept share of a filter over its threshold, on pairs that are known to match.

    measured = measure(jury, held_out, seed=0)
    measured.curve(noise=0.5)                    # points: threshold, precision, recall, kept share
    measured.threshold_for(0.95, noise=0.5)      # the lowest threshold with that precision
    measured.interval(0.4, noise=0.5)            # (0.937, 0.962): what the precision of a threshold may well be

The matching pairs are held-out human ones; each image is also judged with other images' texts. How often web texts
are wrong is not known: `noise` assumes it, and precision depends on it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from blip.capfilt.inputs import Pairs
from blip.capfilt.judge import Jury
from blip.capfilt.pictures import Views, ahead, look
from blip.data.manifest import Shard
from blip.data.pairs import PairsDataset, Sample, excluded_in
from blip.data.text import clean_caption
from blip.errors import BlipError
from blip.tasks.batches import batches
from blip.tasks.matching import BATCH, accuracy, ask, roc_auc
from blip.training.heartbeat import UNHEARD, Heartbeat

Scores = NDArray[np.float64]
ROUND = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.3,
    0.5,
    0.7,
    0.8,
    0.9,
    0.95,
    0.98,
    0.99,
    0.995,
    0.998,
)
"""Thresholds to show: evenly spread log-odds, for a trained filter is sure of most texts."""
JUDGED = 2000  # pairs, or web texts, that a threshold is found with at most
DRAWS = 1000  # sets of pictures, for an interval
EDGES = (0.025, 0.975)  # of them


class Point(NamedTuple):
    """What a threshold gives: of the kept texts the share that match, of the matching the share kept, of all.

    Where nothing is kept, the precision is no number.
    """

    threshold: float
    precision: float
    recall: float
    kept: float


@dataclass(frozen=True)
class Measured:
    """Probabilities of matching: of pairs that match, and of images with another image's text.

    Attributes:
        matched: of every picture with its own text.
        mismatched: of pictures with texts of others.
        picture: of each of these the place of its picture in `matched`; None: each is of another picture, in turn.

    Raises:
        BlipError: one of them is no number.
    """

    matched: Scores
    mismatched: Scores
    picture: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        _require_numbers(np.concatenate([self.matched, self.mismatched]))

    @property
    def roc_auc(self) -> float:
        """The chance that a matching text scores above another, a tie counting half."""
        return roc_auc(*self._all)

    @property
    def accuracy(self) -> float:
        """The share that is judged rightly at a probability of 0.5, of as many pairs that match as others."""
        return accuracy(*self._all)

    @property
    def _all(self) -> tuple[torch.Tensor, torch.Tensor]:
        scores = torch.from_numpy(np.concatenate([self.matched, self.mismatched]))
        return scores, torch.arange(len(scores)) < len(self.matched)

    def at(self, threshold: float, noise: float) -> Point:
        """What a threshold gives where a share `noise` of the texts is wrong."""
        recall = float((self.matched >= threshold).mean())
        passed = float((self.mismatched >= threshold).mean())
        right, wrong = (1 - noise) * recall, noise * passed
        kept = right + wrong
        return Point(threshold, right / kept if kept else math.nan, recall, kept)

    def interval(self, threshold: float, noise: float) -> tuple[float, float]:
        """Where 95% of the precisions lie that other pictures would have given, each drawn with all its texts.

        It knows nothing of how far the noise is from what was assumed. No numbers where nothing is kept.
        """
        pictures = len(self.matched)
        picture = np.arange(len(self.mismatched)) % pictures if self.picture is None else self.picture
        asked = np.bincount(picture, minlength=pictures)
        passed = np.bincount(picture, self.mismatched >= threshold, minlength=pictures)
        chances = np.full(pictures, 1 / pictures)
        drawn = np.random.default_rng(0).multinomial(pictures, chances, size=DRAWS)
        right = (1 - noise) * (drawn @ (self.matched >= threshold)) / pictures
        wrong = noise * (drawn @ passed) / (drawn @ asked)
        kept = right + wrong
        if not kept.any():
            return math.nan, math.nan
        low, high = np.quantile((right / kept.clip(1e-12))[kept > 0], EDGES)
        return float(low), float(high)

    def curve(self, noise: float, thresholds: Iterable[float] = ROUND) -> list[Point]:
        """The points of some thresholds."""
        return [self.at(threshold, noise) for threshold in thresholds]

    def threshold_for(self, precision: float, noise: float) -> float:
        """The lowest threshold with a precision.

        Raises:
            BlipError: none reaches it; the message says what can be had.
        """
        candidates = np.unique(np.concatenate([[0.0], self.matched, self.mismatched]))
        points = [self.at(float(threshold), noise) for threshold in candidates]
        found = next((point.threshold for point in points if point.precision >= precision), None)
        if found is None:
            best = max(point.precision for point in points if point.kept)
            raise BlipError(
                f"no threshold of this filter reaches a precision of {precision} on the held-out pairs with "
                f"{noise:.0%} wrong texts; the best is {best:.3f}. Ask for less, or train a better filter"
            )
        return found


def measure(jury: Jury, held_out: Pairs, seed: int = 0, beat: Heartbeat = UNHEARD) -> Measured:
    """Judge at most `JUDGED` held-out pairs, and each image with texts of other images; `beat` has signs meanwhile.

    Raises:
        BlipError: there are not two pairs with different texts.
    """
    dataset = PairsDataset.open(held_out.dataset)
    matched, mismatched, pictures = [], [], []
    for asked in beat.watched(ask(dataset, excluded_in(held_out.excluded), seed, JUDGED)):
        views = look([sample.media for sample in asked.samples], jury.wanted)
        scores, own = judge_texts(jury, asked.samples, views, asked.texts), len(asked.samples)
        pictures += [len(matched) + place for place, _ in asked.texts[own:]]
        matched += scores[:own]
        mismatched += scores[own:]
    return Measured(np.array(matched), np.array(mismatched), np.array(pictures))


def judge_texts(
    jury: Jury, samples: list[Sample], pictures: Views, texts: list[tuple[int, str]]
) -> list[float]:
    """Probabilities of matching for texts, each with the place of its sample."""
    if not texts:
        return []
    places, asked = zip(*texts, strict=True)
    verdicts = jury(pictures, [sample.key for sample in samples], asked, torch.tensor(places))
    return verdicts.probability.tolist()


def threshold_for_share(jury: Jury, web: Pairs, share: float, beat: Heartbeat = UNHEARD) -> float:
    """The threshold that keeps a share of the web texts, from `JUDGED` of them spread over the shards.

    Damaged shards and pictures that cannot be decoded give none: the jobs that bootstrap them set them aside.
    """
    shards, each = web.spread(JUDGED)
    if not shards:
        raise BlipError(f"{web.dataset} has no sample to find a threshold with")
    scores = [score for shard in shards for score in _scores(jury, web, shard, each, beat)]
    if not scores:
        raise BlipError(f"{web.dataset} has no web text to find a threshold with")
    _require_numbers(np.array(scores))
    return float(np.quantile(np.array(scores), 1 - share, method="lower"))


def _scores(jury: Jury, web: Pairs, shard: Shard, take: int, beat: Heartbeat) -> list[float]:
    """Of the texts of the first samples of a shard; of none where it is damaged."""
    scores: list[float] = []
    try:
        batched = batches(islice(web.samples(shard), take), BATCH)
        for seen in beat.watched(ahead(batched, jury.wanted, threads=0)):
            texts = [
                (place, clean_caption(caption.text))
                for place, sample in enumerate(seen.good)
                for caption in sample.captions
            ]
            scores += judge_texts(jury, seen.good, seen.views, texts)
    except BlipError:
        if not web.is_bad(shard):
            raise
        return []
    return scores


def _require_numbers(scores: Scores) -> None:
    """A threshold would keep none of what has no number, and none would say why."""
    if broken := int(np.isnan(scores).sum()):
        raise BlipError(
            f"{broken:,} of {len(scores):,} probabilities of the filter are no numbers, so no threshold decides by "
            "them: judge in float32 (capfilt.dtype, --dtype), or train the filter again with a lower learning rate"
        )
