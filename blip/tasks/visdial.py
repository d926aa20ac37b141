"""Visual dialog (VisDial): the right answer among a hundred candidates, after a picture, its caption and what was said.

`visdial.mrr` is the mean reciprocal rank of the right answer, `visdial.r1`, `.r5` and `.r10` how often it is among the
first, `visdial.mean_rank` its mean rank; ties count against the model. `visdial.chance_mrr` is what an order at random
is expected to reach.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from blip.data.images import ImageInput
from blip.data.sample import Question, Sample
from blip.model.dialogs import Turn
from blip.tasks.batches import batches
from blip.tasks.outcome import Example, NothingToEvaluate, Outcome, choose, picture_of
from blip.tasks.ranking import RECALLS, ranks

SHOWN = 5  # candidates of an example


class DialogModel(Protocol):
    """What the task asks of a model."""

    def __call__(
        self, images: Sequence[ImageInput], captions: Sequence[str], turns: Sequence[Turn], /
    ) -> list[Tensor]:
        """How good each candidate is, float ``[C]`` for every turn."""
        ...


@dataclass(frozen=True)
class _Row:
    key: str
    dialog: str
    right: str
    best: list[str]
    candidates: int
    rank: int


def evaluate(rank: DialogModel, samples: Iterable[Sample], *, batch_size: int, seed: int) -> Outcome:
    """Rank the candidates of every question whose right answer is among them.

    Raises:
        NothingToEvaluate: there is none.
    """
    rows: list[_Row] = []
    for batch in batches((sample for sample in samples if _told(sample)), batch_size):
        rows += _rank_batch(rank, batch)
    if not rows:
        raise NothingToEvaluate(
            "VisDial needs questions with their answer among candidates; the evaluation data has none (kind: visdial)"
        )
    chosen = choose([row.rank == 1 for row in rows], seed)
    return Outcome(
        metrics=_metrics(rows),
        examples={"examples": [_example(rows[row]) for row in chosen.rows]},
        pictures=frozenset(rows[row].key for row in chosen.rows),
        selection=chosen,
        predictions=[_prediction(row) for row in rows],
    )


def _rank_batch(rank: DialogModel, batch: list[Sample]) -> list[_Row]:
    asked = [(number, question) for number, sample in enumerate(batch) for question in _told(sample)]
    captions = [sample.captions[0].text if sample.captions else "" for sample in batch]
    turns = [Turn(number, question.text, question.candidates) for number, question in asked]
    scores = rank([sample.media for sample in batch], captions, turns)
    return [
        _row(batch[number].key, question, found)
        for (number, question), found in zip(asked, scores, strict=True)
    ]


def _row(key: str, question: Question, scores_C: Tensor) -> _Row:
    right = _right(question)
    positives = torch.tensor([[text == right for text in question.candidates]])
    best = [question.candidates[place] for place in scores_C.argsort(descending=True)[:SHOWN].tolist()]
    place = int(ranks(scores_C[None], positives))
    return _Row(key, question.text, right, best, len(question.candidates), place)


def _metrics(rows: list[_Row]) -> dict[str, float]:
    count = len(rows)
    chance = sum(sum(1 / place for place in range(1, row.candidates + 1)) / row.candidates for row in rows)
    recalls = {f"visdial.r{k}": sum(row.rank <= k for row in rows) / count for k in RECALLS}
    return {
        "visdial.mrr": sum(1 / row.rank for row in rows) / count,
        **recalls,
        "visdial.mean_rank": sum(row.rank for row in rows) / count,
        "visdial.chance_mrr": chance / count,
    }


def _told(sample: Sample) -> list[Question]:
    return [
        question
        for question in sample.questions
        if question.answers and _right(question) in question.candidates
    ]


def _right(question: Question) -> str:
    return max(question.answers, key=lambda answer: question.answers[answer])


def _example(row: _Row) -> Example:
    return {
        "image": picture_of(row.key),
        "dialog": row.dialog,
        "answer": row.right,
        "best": row.best,
        "rank": row.rank,
        "correct": row.rank == 1,
    }


def _prediction(row: _Row) -> dict[str, object]:
    return {"key": row.key, "dialog": row.dialog, "answer": row.right, "first": row.best[0], "rank": row.rank}
