"""Telling matching texts from others: what a filter is asked about held-out pairs, and its figures.

    evaluate(models, held_out, frozenset())      # {"auc": 0.95, "accuracy": 0.88, "itc_auc": 0.91}

Each picture is asked about with its own text and with those of others. The figures are of the models as they are
trained: by the ITM head, and by the embeddings, each of the whole picture. By what CapFilt lets them decide,
`blip.capfilt.calibration` measures.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

from blip.data.pairs import PairsDataset, Sample
from blip.data.text import clean_caption
from blip.errors import BlipError
from blip.model.api import Blip
from blip.tasks.batches import batches

MEMBERS = "members"  # the folder of a filter in which others lie that decide with it
BATCH = 64
OTHERS = 8  # texts of other pictures that each is asked about with: few of them would make a threshold chance
TRIES = 32  # to find them


class Asked(NamedTuple):
    """Pictures, and texts, each with the place of its picture: first the own of every picture, then those of others."""

    samples: list[Sample]
    texts: list[tuple[int, str]]

    @property
    def matched(self) -> Tensor:
        """Which of the texts match, bool ``[N]``."""
        return torch.arange(len(self.texts)) < len(self.samples)


def with_members(directory: Path) -> list[Path]:
    """A filter and the models of the same training that decide with it, in folders of `MEMBERS` within."""
    members = (path for path in (directory / MEMBERS).glob("*") if path.name.isdecimal())
    return [directory, *sorted(members, key=lambda path: int(path.name))]


def evaluate(models: Sequence[Blip], held_out: PairsDataset, exclude: frozenset[str]) -> dict[str, float]:
    """ROC AUC, and accuracy at a probability of 0.5, of the ITM head; ROC AUC of the embeddings' cosine.

    Several models decide by the mean of their log-odds, and of their cosines. The texts of others are the same ones
    whatever the seed of the run, so that models of two runs can be compared.

    Raises:
        BlipError: there are not two pairs with different texts, or a score is no finite number.
    """
    scores, matched = [], []
    for asked in ask(held_out, exclude):
        scores.append(torch.stack([_scores(model, asked) for model in models]).mean(0))
        matched.append(asked.matched)
    matched_N, (itm_N, itc_N) = torch.cat(matched), torch.cat(scores, 1)
    return {
        "auc": roc_auc(itm_N, matched_N),
        "accuracy": accuracy(itm_N.sigmoid(), matched_N),
        "itc_auc": roc_auc(itc_N, matched_N),
    }


def _scores(model: Blip, asked: Asked) -> Tensor:
    """Log-odds of the ITM head, and cosines, ``[2, N]``."""
    places, texts = zip(*asked.texts, strict=True)
    index = torch.tensor(places)
    tokens_BTD = model.encode_images([sample.media for sample in asked.samples])
    itm = model.score_pairs(tokens_BTD, index, texts, torch.arange(len(texts))).cpu()
    images_BP = model.project_images(tokens_BTD).cpu()
    return torch.stack((itm, (images_BP[index] * model.embed_texts(texts).cpu()).sum(1)))


def ask(held_out: PairsDataset, exclude: frozenset[str], seed: int = 0, limit: int = 2000) -> Iterator[Asked]:
    """At most `limit` pairs that match, in batches, with `OTHERS` texts of other pictures for each picture.

    Of a larger dataset they are from all over it: in order it may be one source after the other.

    Raises:
        BlipError: there are not two pairs with different texts.
    """
    texts = sorted({text for text in held_out.texts(exclude) if text})
    if len(texts) < 2:
        raise BlipError(
            f"{held_out.path}: a filter is measured on pairs with different texts; it has {len(texts)}"
        )
    for batch in batches(_spread(held_out, exclude, limit), BATCH):
        own = [[clean_caption(caption.text) for caption in sample.captions] for sample in batch]
        first = [(place, mine[0]) for place, mine in enumerate(own)]
        others = [
            (place, text)
            for place, (sample, mine) in enumerate(zip(batch, own, strict=True))
            for text in _others(texts, set(mine), Random(f"{seed}/{sample.key}"))
        ]
        yield Asked(batch, [*first, *others])


def _spread(held_out: PairsDataset, exclude: frozenset[str], limit: int) -> Iterator[Sample]:
    """Samples with texts: all of them, or the first of each of many shards."""
    shards, each = held_out.spread(limit) if len(held_out) > limit else (held_out.manifest.shards, limit)
    for shard in shards:
        yield from islice(_with_texts(held_out.shard_samples(shard, exclude)), each)


def _with_texts(samples: Iterable[Sample]) -> Iterator[Sample]:
    return (sample for sample in samples if sample.captions and clean_caption(sample.captions[0].text))


def _others(texts: list[str], own: set[str], rng: Random) -> list[str]:
    """Texts that are not the picture's own; with few texts the same one may come again."""
    found = [text for text in rng.choices(texts, k=TRIES) if text not in own][:OTHERS]
    return found or [next((text for text in texts if text not in own), texts[0])]


def roc_auc(scores_N: Tensor, matched_N: Tensor) -> float:
    """Area under the ROC curve: the chance that a matched pair scores above an unmatched one, a tie counting half.

    Raises:
        BlipError: a score is no finite number.
    """
    from sklearn.metrics import roc_auc_score

    if broken := int((~scores_N.isfinite()).sum()):
        raise BlipError(
            f"{broken:,} of {len(scores_N):,} scores of the filter are no finite numbers: its training went "
            "wrong. Look at its curve (metrics/curves), and train it again with a lower learning rate or with "
            "optimiser.clip"
        )
    return float(roc_auc_score(matched_N.numpy(), scores_N.double().numpy()))


def accuracy(probability_N: Tensor, matched_N: Tensor) -> float:
    """The share that is judged rightly at a probability of 0.5, of as many pairs that match as others."""
    right_N = (probability_N >= 0.5) == matched_N
    return (right_N[matched_N].double().mean() + right_N[~matched_N].double().mean()).item() / 2


def precision_recall(kept_N: Tensor, matched_N: Tensor) -> tuple[float, float]:
    """Of the kept texts how many match, and of the matching how many are kept; no numbers where there are none."""
    both = int((kept_N & matched_N).sum())
    return share_of(both, int(kept_N.sum())), share_of(both, int(matched_N.sum()))


def share_of(some: int, all_: int) -> float:
    """How large a part some of all are; no number where there are none."""
    return some / all_ if all_ else math.nan


def as_mask(values: list[bool]) -> Tensor:
    """A list of truths as a tensor."""
    return torch.tensor(values, dtype=torch.bool)
