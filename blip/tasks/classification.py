"""Zero-shot classification: a picture belongs to the class whose texts are nearest (Radford et al., 2021).

Each class name is put into every template; its embedding is the mean of theirs. Only ITC embeddings are used.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    named = {key: clean_caption(label) for key, label in labels.items()}
    keys: list[str] = []
    embeddings: list[Tensor] = []
    for batch in batches((sample for sample in samples if named.get(sample.key)), batch_size):
        keys += [sample.key for sample in batch]
        embeddings.append(model.embed_images([sample.media for sample in batch]).float().cpu())
    if not keys:
        raise NothingToEvaluate(
            "classification needs labels (truth_label in the metadata, or captions), none was found"
        )
    places = {name: place for place, name in enumerate(dict.fromkeys(named[key] for key in keys))}
    classes = [next(labels[key] for key in keys if named[key] == name) for name in places]
    similarity_NC = torch.cat(embeddings) @ class_embeddings(model, classes, templates).T
    target_N = torch.tensor([places[named[key]] for key in keys])
    ranks_N = ranks(similarity_NC, F.one_hot(target_N, len(classes)).bool())
    probability_NC = (similarity_NC / temperature).softmax(dim=1)
    rows = [_row(*row) for row in zip(keys, target_N, ranks_N, probability_NC, repeat(classes), strict=False)]
    chosen = choose((ranks_N == 1).tolist(), seed)
    within = recall_at(ranks_N, (1, 5))
    return Outcome(
        metrics={
            "classification.top1": within[1],
            "classification.top5": within[5],
            "classification.classes": float(len(classes)),
        },
        examples={"examples": [_example(rows[row]) for row in chosen.rows]},
        pictures=frozenset(keys[row] for row in chosen.rows),
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
