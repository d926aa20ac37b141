"""Statements about two pictures: a toy judge that knows colours, and a real network of toy size."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from blip.data.sample import Question, Sample
from blip.errors import BlipError
from blip.model.nlvr import pre_trained
from blip.model.two_images import TwoImages
from blip.tasks.nlvr import evaluate
from blip.tasks.outcome import partner_of, picture_of
from tests import tiny


def said(text: str, true: bool) -> Question:
    return Question(text, {"true" if true else "false": 1.0}, open=False)


@pytest.fixture
def two(painted):
    """A sample of two coloured pictures with statements about them."""

    def pair(key: str, left: str, right: str, *statements: Question) -> Sample:
        other = painted(key, right)
        return replace(painted(key, left, questions=statements), partner=other.media, partner_extension="png")

    return pair


class SameColour:
    """Finds a statement true where both pictures have one colour, whatever it says."""

    def judge(
        self, left: Sequence[bytes], right: Sequence[bytes], statements: Sequence[str], pair: list[int]
    ):
        assert len(statements) == len(pair)
        return torch.tensor([0.9 if left[row] == right[row] else 0.1 for row in pair])


def test_every_told_statement_is_judged_with_its_own_pair(two) -> None:
    samples = [
        two("a", "red", "red", said("one colour", True), said("two colours", False)),
        two("b", "red", "blue", said("one colour", False)),
        two("untold", "red", "blue", Question("one colour", {}, False)),
        two("c", "blue", "blue", said("one colour", True)),
    ]
    outcome = evaluate(SameColour(), samples, batch_size=2, seed=1)
    assert outcome.metrics == {"nlvr.accuracy": 3 / 4, "nlvr.majority": 1 / 2}
    assert [row["key"] for row in outcome.predictions] == ["a", "a", "b", "c"]
    wrong = [example for example in outcome.examples["examples"] if not example["correct"]]
    assert [(example["statement"], example["true"]) for example in wrong] == [("two colours", False)]
    assert (wrong[0]["image"], wrong[0]["partner"]) == (picture_of("a"), partner_of("a"))


def test_what_always_the_same_answer_reaches_is_said_beside(two) -> None:
    samples = [two(f"{n}", "red", "blue", said("one colour", n == 0)) for n in range(4)]
    metrics = evaluate(SameColour(), samples, batch_size=3, seed=1).metrics
    assert metrics == {"nlvr.accuracy": 3 / 4, "nlvr.majority": 3 / 4}


def test_a_probability_that_is_no_number_is_wrong_whatever_is_true(two) -> None:
    class Broken:
        def judge(self, left, right, statements, pair):
            return torch.full((len(pair),), torch.nan)

    samples = [two("a", "red", "red", said("one colour", True), said("two colours", False))]
    assert evaluate(Broken(), samples, batch_size=2, seed=1).metrics["nlvr.accuracy"] == 0.0


def test_samples_of_one_picture_are_no_data_for_it(painted) -> None:
    with pytest.raises(BlipError, match=r"two pictures.*kind: nlvr2"):
        evaluate(SameColour(), [painted("a", "red", questions=[said("red", True)])], batch_size=2, seed=1)


@pytest.fixture
def model() -> TwoImages:
    return TwoImages(pre_trained(tiny.network()), tiny.tokenizer(), 16)


def test_a_statement_is_judged_alike_alone_and_in_a_batch(model: TwoImages, painted) -> None:
    left, right = (
        [painted(c, c).media for c in colours] for colours in (("red", "green"), ("blue", "white"))
    )
    texts = ["the red dog", "an apple on the table", "the dog in the picture"]
    together = model.judge(left, right, texts, [0, 0, 1])
    alone = [model.judge([left[n]], [right[n]], [text]) for n, text in zip((0, 0, 1), texts, strict=True)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    assert together.shape == (3,) and together.dtype == torch.float32
    assert ((together > 0) & (together < 1)).all() and len(set(together.tolist())) == 3


def test_numbers_that_do_not_go_together_are_refused(model: TwoImages, painted) -> None:
    picture = painted("a", "red").media
    with pytest.raises(BlipError, match="1 left and 2 right images, 1 statements about 1 pairs"):
        model.judge([picture], [picture] * 2, ["red"])
    with pytest.raises(BlipError, match="2 statements about 1 pairs"):
        model.judge([picture], [picture], ["red", "dog"])
    assert model.judge([], [], []).shape == (0,)
