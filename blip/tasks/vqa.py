"""Visual question answering: ranked answers, the official accuracy, and a baseline that does not look.

The baseline answers what training questions with the same text were most often answered with. A model that is
no better has learnt the questions, not the pictures.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from blip.data.images import ImageInput
from blip.data.sample import Question, Sample
from blip.data.text import clean_answer, clean_question
from blip.errors import BlipError
from blip.tasks.batches import batches
from blip.tasks.clips import encode_frames
from blip.tasks.outcome import Example, NothingToEvaluate, Outcome, choose, frames_of, picture_of
from blip.tasks.vqa_answers import accuracy, normalise

ANSWERS = 3128  # candidates: so many of the most frequent training answers (BLIP)
RIGHT = 0.5  # the accuracy from which on an answer is shown as right


class VqaModel(Protocol):
    """What question answering asks of a model."""

    def encode_images(self, images: Sequence[ImageInput], batch_size: int, /) -> Tensor:
        """Image tokens ``[B, N, D]``."""
        ...

    def rank_answers(
        self,
        tokens_BND: Tensor,
        image_index: Tensor,
        questions: list[str],
        candidates: list[str],
        /,
        *,
        keep: int,
    ) -> list[str]:
        """The best candidate for each question about the image that the int64 index names.

        The `keep` candidates with the likeliest first token are compared by their whole likelihood.
        """
        ...


@dataclass
class QuestionOnly:
    """Counts of training answers by question: the whole text, its first two words, and overall.

    They are counted in the form in which answers are compared; `written` has the forms that a model is taught.
    """

    by_text: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_opening: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    overall: Counter[str] = field(default_factory=Counter)
    written: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @classmethod
    def count(cls, samples: Iterable[Sample]) -> "QuestionOnly":
        """Count the answers of the training questions."""
        baseline = cls()
        for question in (question for sample in samples for question in sample.questions):
            text = clean_question(question.text)
            for answer, share in question.answers.items():
                for counts in (baseline.by_text[text], baseline.by_opening[_opening(text)], baseline.overall):
                    counts[normalise(answer)] += share  # type: ignore[assignment]
                baseline.written[normalise(answer)][clean_answer(answer)] += share  # type: ignore[assignment]
        return baseline

    def answer(self, question: str) -> str:
        """The most frequent answer to the question, to questions that begin alike, or to any."""
        text = clean_question(question)
        for counts in (self.by_text.get(text), self.by_opening.get(_opening(text)), self.overall):
            if counts:
                return _most_frequent(counts, 1)[0]
        raise BlipError("the question-only baseline has seen no training answers")

    def answers(self, count: int = ANSWERS) -> list[str]:
        """The most frequent training answers, each as it was written most often: as "two" and not as "2"."""
        written = (
            _most_frequent(self.written[answer], 1)[0] for answer in _most_frequent(self.overall, count)
        )
        return [text for text in written if text]


def read_answers(path: Path) -> list[str]:
    """The answers in a JSON list, as BLIP's answer_list.json. Raises BlipError if it is not there or no such list."""
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BlipError(f"{path}: no such file; name a JSON list of answers") from None
    except (OSError, ValueError) as error:
        raise BlipError(f"{path}: not a JSON list of answers: {error}") from None
    if not isinstance(listed, list) or not all(isinstance(answer, str) for answer in listed):
        raise BlipError(f'{path}: not a JSON list of answers, as ["yes", "no"]')
    answers = [answer for answer in dict.fromkeys(listed) if clean_answer(answer)]
    if not answers:
        raise BlipError(f"{path}: it lists no answer")
    return answers


@torch.inference_mode()
def evaluate(
    model: VqaModel,
    samples: Iterable[Sample],
    baseline: QuestionOnly,
    answers: Sequence[str] = (),
    *,
    keep: int,
    batch_size: int,
    seed: int,
    of_tests: bool = False,
    frame_count: int = 0,
) -> Outcome:
    """Answer every question that has answers, and let the baseline do the same.

    Args:
        baseline: counted on the training questions; of one that has counted none nothing is told.
        answers: what may be answered; the most frequent answers of the training questions where there are none.
        keep: how many candidates of a question are compared by their whole likelihood.
        of_tests: answer questions of a test, too, whose answers a server has: those with an id. They count nowhere.
        frame_count: how many frames of each clip are looked at, where the samples are clips; `batch_size` counts them.

    Raises:
        NothingToEvaluate: there is no such question.
    """
    candidates = list(answers) or baseline.answers()
    rows: list[_Row] = []
    at_once = max(1, batch_size // max(1, frame_count))
    for batch in batches(_asked(samples, of_tests), at_once):
        rows += _answer_batch(model, batch, baseline, candidates, keep, frame_count)
    if not rows:
        raise NothingToEvaluate(
            "question answering needs questions with answers, and the evaluation data has none"
        )
    scored = [row for row in rows if row.question.answers]
    chosen = choose([row.correct for row in scored], seed)
    return Outcome(
        metrics=_metrics(scored, bool(baseline.overall)),
        examples={"examples": [_example(scored[row]) for row in chosen.rows]},
        pictures=frozenset(scored[row].key for row in chosen.rows),
        selection=chosen,
        predictions=[_prediction(row) for row in rows],
        answers=[
            {"question_id": row.question.id, "answer": row.prediction}
            for row in rows
            if row.question.id is not None
        ],
    )


@dataclass(frozen=True)
class _Row:
    key: str
    picture: str
    question: Question
    prediction: str
    guess: str  # the baseline's
    accuracy: float
    guess_accuracy: float

    @property
    def correct(self) -> bool:
        return self.accuracy >= RIGHT

    @property
    def wanted(self) -> str:
        return max(self.question.answers, key=lambda answer: self.question.answers[answer], default="")


def _answer_batch(
    model: VqaModel,
    batch: list[Sample],
    baseline: QuestionOnly,
    answers: list[str],
    keep: int,
    frame_count: int,
) -> list[_Row]:
    asked = [(row, question) for row, sample in enumerate(batch) for question in sample.questions]
    if frame_count:
        tokens_BND = encode_frames(model.encode_images, batch, frame_count)
    else:
        tokens_BND = model.encode_images([sample.media for sample in batch], len(batch))
    index = torch.tensor([row for row, _ in asked], device=tokens_BND.device)
    texts = [clean_question(question.text) for _, question in asked]
    predictions = model.rank_answers(tokens_BND, index, texts, answers, keep=keep)
    rows = []
    for (row, question), prediction in zip(asked, predictions, strict=True):
        guess = baseline.answer(question.text) if baseline.overall else ""
        right, lucky = (_accuracy(text, question) for text in (prediction, guess))
        key = batch[row].key
        picture = frames_of(key)[0] if frame_count else picture_of(key)
        rows.append(_Row(key, picture, question, prediction, guess, right, lucky))
    return rows


def _metrics(rows: list[_Row], guessed: bool) -> dict[str, float]:
    groups = {
        "": rows,
        "open_": [row for row in rows if row.question.open],
        "yes_no_": [row for row in rows if not row.question.open],
    }
    metrics = {}
    for name, group in groups.items():
        if group:
            metrics[f"vqa.{name}accuracy"] = sum(row.accuracy for row in group) / len(group)
        if group and guessed:
            suffix = f"_{name[:-1]}" if name else ""
            metrics[f"vqa.question_only{suffix}"] = sum(row.guess_accuracy for row in group) / len(group)
    return metrics


def _accuracy(text: str, question: Question) -> float:
    """0 of a question of a test, which counts nowhere."""
    return accuracy(text, question.answers, question.annotators) if question.answers else 0.0


def _asked(samples: Iterable[Sample], of_tests: bool) -> Iterator[Sample]:
    """The samples that have questions to be answered, with these."""
    for sample in samples:
        asked = tuple(q for q in sample.questions if q.answers or (of_tests and q.id is not None))
        if asked:
            yield replace(sample, questions=asked)


def _opening(text: str) -> str:
    return " ".join(text.split()[:2])


def _most_frequent(counts: Counter[str], count: int) -> list[str]:
    """By frequency, then by name, so that equal counts do not depend on the order of the data."""
    return sorted(counts, key=lambda answer: (-counts[answer], answer))[:count]


def _example(row: _Row) -> Example:
    return {
        "image": row.picture,
        "question": row.question.text,
        "answer": row.wanted,
        "prediction": row.prediction,
        "correct": row.correct,
        "accuracy": round(row.accuracy, 4),
    }


def _prediction(row: _Row) -> dict[str, object]:
    return {
        "key": row.key,
        "question": row.question.text,
        "answer": row.wanted,
        "prediction": row.prediction,
        "accuracy": round(row.accuracy, 4) if row.question.answers else "",
        "question_only": row.guess,
    }
