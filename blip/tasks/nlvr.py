"""Natural-language visual reasoning (NLVR2): is a statement true of two pictures? Accuracy, as the paper has it.

Half of NLVR2's statements are true, so that who does not look is right half of the time; `nlvr.majority` says what
always giving the more frequent answer would reach on the data at hand.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from blip.data.images import ImageInput
from blip.data.sample import Question, Sample
from blip.tasks.batches import batches
from blip.tasks.outcome import Example, NothingToEvaluate, Outcome, choose, partner_of, picture_of


class NlvrModel(Protocol):
    """What the task asks of a model."""

    def judge(
        self,
        left: Sequence[ImageInput],
        right: Sequence[ImageInput],
        statements: Sequence[str],
        pair: Sequence[int],
        /,
    ) -> Tensor:
        """The probability of being true of each statement, about the pair that `pair` names."""
        ...


@dataclass(frozen=True)
class _Row:
    key: str
    statement: str
    true: bool
    probability: float

    @property
    def correct(self) -> bool:
        """A probability that is no number is no answer."""
        return not math.isnan(self.probability) and (self.probability >= 0.5) == self.true


def evaluate(model: NlvrModel, samples: Iterable[Sample], *, batch_size: int, seed: int) -> Outcome:
    """Judge every statement of which is told whether it is true.

    Raises:
        NothingToEvaluate: there is none about two pictures.
    """
    rows: list[_Row] = []
    for batch in batches((sample for sample in samples if _told(sample)), batch_size):
        rows += _judge(model, batch)
    if not rows:
        raise NothingToEvaluate(
            "NLVR2 needs statements about two pictures, true or false; the evaluation data has none (kind: nlvr2)"
        )
    chosen = choose([row.correct for row in rows], seed)
    true = sum(row.true for row in rows) / len(rows)
    return Outcome(
        metrics={
            "nlvr.accuracy": sum(row.correct for row in rows) / len(rows),
            "nlvr.majority": max(true, 1 - true),
        },
        examples={"examples": [_example(rows[row]) for row in chosen.rows]},
        pictures=frozenset(rows[row].key for row in chosen.rows),
        selection=chosen,
        predictions=[_prediction(row) for row in rows],
    )


def _judge(model: NlvrModel, batch: list[Sample]) -> list[_Row]:
    told = [(number, question) for number, sample in enumerate(batch) for question in _told(sample)]
    right = [sample.partner for sample in batch if sample.partner is not None]
    found = model.judge(
        [sample.media for sample in batch],
        right,
        [question.text for _, question in told],
        [number for number, _ in told],
    )
    return [
        _Row(batch[number].key, question.text, question.answers.get("true", 0.0) >= 0.5, probability)
        for (number, question), probability in zip(told, found.tolist(), strict=True)
    ]


def _told(sample: Sample) -> list[Question]:
    """Its statements with an answer, if it has two pictures."""
    return [] if sample.partner is None else [question for question in sample.questions if question.answers]


def _example(row: _Row) -> Example:
    return {
        "image": picture_of(row.key),
        "partner": partner_of(row.key),
        "statement": row.statement,
        "true": row.true,
        "probability": round(row.probability, 4),
        "correct": row.correct,
    }


def _prediction(row: _Row) -> dict[str, object]:
    return {
        "key": row.key,
        "statement": row.statement,
        "true": row.true,
        "probability": round(row.probability, 4),
    }
