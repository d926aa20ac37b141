"""Ranks of right answers among candidates, by a toy model."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from blip.data.sample import Question
from blip.errors import BlipError
from blip.model.dialogs import Turn
from blip.tasks.visdial import evaluate

ANSWERS = ("red", "blue", "green", "white")


def asked(right: str, candidates: Sequence[str] = ANSWERS) -> Question:
    return Question("is it far? no. what colour?", {right: 1.0}, open=True, candidates=tuple(candidates))


def in_order(images: Sequence[bytes], captions: Sequence[str], turns: Sequence[Turn]) -> list[Tensor]:
    """Prefers what comes first; of a caption that names a colour, that colour above all."""
    assert len(images) == len(captions)
    return [
        torch.tensor([10.0 * (text in captions[turn.image]) - n for n, text in enumerate(turn.candidates)])
        for turn in turns
    ]


def constant(images: Sequence[bytes], captions: Sequence[str], turns: Sequence[Turn]) -> list[Tensor]:
    return [torch.zeros(len(turn.candidates)) for turn in turns]


def test_the_rank_of_the_right_answer_is_counted(painted) -> None:
    samples = [
        painted("a", "red", ["a white thing"], [asked("white"), asked("blue")]),
        painted("b", "red", [], [asked("green"), Question("untold?", {}, True, ANSWERS), asked("pink")]),
        painted("c", "red", ["no question"]),
    ]
    outcome = evaluate(in_order, samples, batch_size=2, seed=1)
    assert [row["rank"] for row in outcome.predictions] == [1, 3, 3]
    assert outcome.metrics == pytest.approx(
        {
            "visdial.mrr": (1 + 1 / 3 + 1 / 3) / 3,
            "visdial.r1": 1 / 3,
            "visdial.r5": 1.0,
            "visdial.r10": 1.0,
            "visdial.mean_rank": 7 / 3,
            "visdial.chance_mrr": (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4,
        }
    )
    example = next(one for one in outcome.examples["examples"] if one["correct"])
    assert (example["answer"], example["best"][:2]) == ("white", ["white", "red"])


def test_a_model_that_scores_all_alike_is_last(painted) -> None:
    outcome = evaluate(constant, [painted("a", "red", [], [asked("red")])], batch_size=2, seed=1)
    assert outcome.metrics["visdial.mean_rank"] == len(ANSWERS)


def test_the_right_answer_may_be_there_twice(painted) -> None:
    samples = [painted("a", "red", [], [asked("green", ("red", "green", "blue", "green"))])]
    assert evaluate(in_order, samples, batch_size=2, seed=1).metrics["visdial.mean_rank"] == 2


def test_questions_without_candidates_are_no_data_for_it(painted) -> None:
    samples = [painted("a", "red", [], [Question("what?", {"red": 1.0}, True)])]
    with pytest.raises(BlipError, match=r"answer among candidates.*kind: visdial"):
        evaluate(in_order, samples, batch_size=2, seed=1)
