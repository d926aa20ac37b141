"""Dialogs as they are trained: every question with its right answer and with another candidate."""

from random import Random

import pytest
import torch

from blip.data.loader import Batch
from blip.data.sample import Caption, Question, Sample
from blip.errors import BlipError
from blip.training.collate import DialogCollate
from tests import tiny

TOKENS = tiny.tokenizer()
ASKED = (
    Question("the dog", {"red": 1.0}, True, ("green", "red", "table")),
    Question("the dog red the apple", {"green": 1.0}, True, ("green", "red")),
    Question("untold", {}, True, ("green", "red")),
)


def loaded(seed: int = 0, questions: tuple[Question, ...] = ASKED) -> Batch:
    captions = ((Caption("the red picture", "human"),), ())
    samples = tuple(Sample(f"s{n}", b"", "png", captions[n], questions, 8, 8) for n in range(2))
    return Batch(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), samples, torch.arange(2), Random(seed), 0, 0)


def test_right_and_wrong_answers_take_turns() -> None:
    wrong_ones = set()
    for seed in range(20):
        made = DialogCollate(TOKENS, 16, 2)(loaded(seed))
        assert made.image.tolist() == [0] * 4 + [1] * 4
        assert made.right.tolist() == [1, 0] * 4
        texts = TOKENS.decode(made.dialogs)
        for right, wrong in zip(texts[::2], texts[1::2], strict=True):
            question = max((q for q in ASKED if right.startswith(q.text)), key=lambda q: len(q.text))
            (answer,) = question.answers
            assert right == f"{question.text} {answer}"
            assert wrong.startswith(question.text) and wrong != right
            wrong_ones.add(wrong)
    assert wrong_ones == {"the dog green", "the dog table", "the dog red the apple red"}


def test_captions_are_read_apart_and_may_be_missing() -> None:
    made = DialogCollate(TOKENS, 16, 1)(loaded())
    assert TOKENS.decode(made.captions) == ["the red picture", ""]
    assert (made.captions[:, 0] == TOKENS.cls).all() and (made.dialogs[:, 0] == TOKENS.enc).all()


def test_questions_without_candidates_are_refused_with_the_way_out() -> None:
    with pytest.raises(BlipError, match=r"none of 2 samples \(s0, \.\.\.\).*kind: visdial"):
        DialogCollate(TOKENS, 16, 1)(loaded(questions=(Question("what", {"red": 1.0}, True),)))
