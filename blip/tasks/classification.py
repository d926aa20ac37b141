"""Zero-shot classification: a picture belongs to the class whose texts are nearest (Radford et al., 2021).

Each class name is put into every template; its embedding is the mean of theirs. Only ITC embeddings are used.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from blip.data.images import ImageInput
from blip.data.sample import Sample
from blip.data.text import clean_caption
from blip.tasks.batches import batches
from blip.tasks.outcome import Example, NothingToEvaluate, Outcome, choose, picture_of
from blip.tasks.ranking import ranks, recall_at

SHOWN = 5
WITHIN = (1, 5)  # of the ranks


class ClassificationModel(Protocol):
    """What classification asks of a model."""

    def embed_images(self, images: Sequence[ImageInput], /) -> Tensor:
        """Unit vectors ``[N, P]``."""
        ...

    def embed_texts(self, texts: list[str], /) -> Tensor:
        """Unit vectors ``[M, P]``."""
        ...


@torch.inference_mode()
def class_embeddings(model: ClassificationModel, labels: Sequence[str], templates: Sequence[str]) -> Tensor:
    """A unit vector for each class, ``[C, P]`` float32: the mean over the templates."""
    texts = [clean_caption(template.replace("{}", label)) for label in labels for template in templates]
    embeddings_RP = model.embed_texts(texts).float().cpu()
    return F.normalize(embeddings_RP.unflatten(0, (len(labels), len(templates))).mean(dim=1), dim=-1)


@dataclass(frozen=True)
class Classified:
    """Pictures among classes: N keys, C class names, which class each is of, and the cosines ``[N, C]``."""

    keys: list[str]
    classes: list[str]
    target_N: Tensor
    similarity_NC: Tensor

    @cached_property
    def ranks_N(self) -> Tensor:
        """The rank of each picture's own class, int64."""
        return ranks(self.similarity_NC, F.one_hot(self.target_N, len(self.classes)).bool())

    @property
    def within(self) -> dict[int, float]:
        """The share of pictures whose own class is the first, and among the first five."""
        return recall_at(self.ranks_N, WITHIN)

    @property
    def hits(self) -> dict[str, Tensor]:
        """Which pictures have their own class first (``top1``) and among the first five (``top5``)."""
        return {f"top{k}": self.ranks_N <= k for k in WITHIN}


@torch.inference_mode()
def classify(
    model: ClassificationModel,
    keys: Sequence[str],
    embeddings_NP: Tensor,
    labels: Mapping[str, str],
    templates: Sequence[str],
) -> Classified:
    """Compare embedded pictures with all labels that occur; those without a label are left out.

    Raises:
        NothingToEvaluate: none has a label.
    """
    rows = [row for row, key in enumerate(keys) if clean_caption(labels.get(key, ""))]
    if not rows:
        raise NothingToEvaluate(
            "classification needs labels, and no sample has one: a column `label` in a truth.csv beside the table, "
            "or captions that are names of classes, which pictures share. In the pipeline "
            "`evaluate.classification: null` leaves it out"
        )
    own = [labels[keys[row]] for row in rows]
    places: dict[str, int] = {}
    target_N = torch.tensor([places.setdefault(clean_caption(label), len(places)) for label in own])
    spelled = dict(reversed([(clean_caption(label), label) for label in own]))  # as it is written first
    classes = [spelled[name] for name in places]
    similarity_NC = embeddings_NP[rows].float().cpu() @ class_embeddings(model, classes, templates).T
    return Classified([keys[row] for row in rows], classes, target_N, similarity_NC)


@torch.inference_mode()
def evaluate(
    model: ClassificationModel,
    samples: Iterable[Sample],
    labels: Mapping[str, str],
    *,
    templates: Sequence[str],
    temperature: float,
    batch_size: int,
    seed: int,
) -> Outcome:
    """Classify every sample among all labels that occur.

    Args:
        labels: the class name of each sample, by key; samples that are not in it are left out. Names that are one
            text to the model ("Red", "red.") are one class.
        temperature: divides similarities for the probabilities of the examples; ranks do not depend on it.

    Raises:
        NothingToEvaluate: no sample has a label.
    """
    named = frozenset(key for key, label in labels.items() if clean_caption(label))
    keys: list[str] = []
    embeddings: list[Tensor] = []
    for batch in batches((sample for sample in samples if sample.key in named), batch_size):
        keys += [sample.key for sample in batch]
        embeddings.append(model.embed_images([sample.media for sample in batch]).float().cpu())
    embeddings_NP = torch.cat(embeddings) if embeddings else torch.empty(0, 0)
    found = classify(model, keys, embeddings_NP, labels, templates)
    probability_NC = (found.similarity_NC / temperature).softmax(dim=1)
    parts = (found.keys, found.target_N, found.ranks_N, probability_NC, repeat(found.classes))
    rows = [_row(*row) for row in zip(*parts, strict=False)]
    chosen = choose((found.ranks_N == 1).tolist(), seed)
    top1, top5 = found.within.values()
    return Outcome(
        metrics={
            "classification.top1": top1,
            "classification.top5": top5,
            "classification.classes": float(len(found.classes)),
        },
        examples={"examples": [_example(rows[row]) for row in chosen.rows]},
        pictures=frozenset(found.keys[row] for row in chosen.rows),
        selection=chosen,
        predictions=[_prediction(row) for row in rows],
    )


@dataclass(frozen=True)
class _Row:
    key: str
    label: str
    rank: int
    top: list[tuple[str, float]]  # classes and their probabilities, best first


def _row(key: str, target: Tensor, rank: Tensor, probability_C: Tensor, classes: list[str]) -> _Row:
    best, index = probability_C.topk(min(SHOWN, len(classes)))
    top = [(classes[i], round(p, 4)) for i, p in zip(index.tolist(), best.tolist(), strict=True)]
    return _Row(key, classes[int(target)], int(rank), top)


def _example(row: _Row) -> Example:
    top = [{"label": label, "probability": probability} for label, probability in row.top]
    return {"image": picture_of(row.key), "label": row.label, "top": top, "correct": row.rank == 1}


def _prediction(row: _Row) -> dict[str, object]:
    return {"key": row.key, "label": row.label, "prediction": row.top[0][0], "rank": row.rank}
