"""The rules of the public VQA evaluation."""

import pytest

from blip.tasks.vqa_answers import accuracy, normalise


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Two dogs.", "2 dogs"),
        ("none", "0"),
        ("a\nred  car\t", "red car"),
        ("black, white", "black white"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("t-shirt", "t shirt"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("5 p.m.", "5 pm"),
        ("dont know", "don't know"),
        ("shouldnt've", "shouldn't've"),
        ("were", "were"),
        ("what?", "what"),
        ("it's", "it's"),
        ("an", ""),
    ],
)
def test_answers_are_brought_to_one_form(answer, expected):
    assert normalise(answer) == expected


def test_one_known_answer_is_right_or_wrong():
    assert accuracy("Yes.", {"yes": 1.0}) == 1.0
    assert accuracy("no", {"yes": 1.0}) == 0.0


@pytest.mark.parametrize(
    ("agreeing", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)]
)
def test_three_of_ten_annotators_nearly_give_full_marks(agreeing, expected):
    answers = {"blue": agreeing / 10, "navy": 1 - agreeing / 10}
    assert accuracy("blue", answers) == pytest.approx(expected)


def test_the_accuracy_is_the_mean_over_leaving_out_each_annotator():
    given = ["blue"] * 2 + ["navy"] * 5 + ["teal"] * 3
    for prediction in ("blue", "navy", "teal", "red"):
        scores = []
        for out in range(10):
            others = given[:out] + given[out + 1 :]
            scores.append(min(others.count(prediction) / 3, 1))
        answers = {name: given.count(name) / 10 for name in set(given)}
        assert accuracy(prediction, answers) == pytest.approx(sum(scores) / 10)


def test_annotators_who_wrote_the_same_answer_differently_agree():
    assert accuracy("2", {"two": 0.5, "2": 0.3, "the 2": 0.2}) == 1.0


@pytest.mark.parametrize(
    "given", [["red", "blue"], ["red", "red", "blue"], ["red", "red", "red", "blue", "teal"]]
)
def test_fewer_annotators_are_left_out_in_turn_as_ten_are(given):
    for prediction in ("red", "blue", "green"):
        others = [given[:out] + given[out + 1 :] for out in range(len(given))]
        expected = sum(min(left.count(prediction) / 3, 1) for left in others) / len(given)
        answers = {name: given.count(name) / len(given) for name in set(given)}
        assert accuracy(prediction, answers, len(given)) == pytest.approx(expected)
