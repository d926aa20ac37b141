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
    ("given", "expected"),
    [
        (["sofa", "couch"], {"sofa": 1, "couch": 1, "chair": 0}),
        (["red", "red", "blue"], {"red": 1, "blue": 0.5}),
        (["red", "red", "red", "blue", "teal"], {"red": 1, "blue": 1 / 3, "teal": 1 / 3}),
        (["red", "red", "blue", "teal", "grey", "pink", "gold", "lime"], {"red": 1, "blue": 0.5}),
    ],
)
def test_fewer_annotators_than_ten_are_held_against_their_best_answer(given, expected):
    """Each is left out in turn as of ten, and what most gave is right."""
    answers = {name: given.count(name) / len(given) for name in set(given)}
    for prediction, right in expected.items():
        assert accuracy(prediction, answers, len(given)) == pytest.approx(right)
        assert (accuracy(prediction, answers, len(given)) >= 0.5) is (right >= 0.5)


def test_an_answer_that_two_people_wrote_in_other_ways_counts_once():
    assert accuracy("two", {"2": 1 / 3, "two": 1 / 3, "three": 1 / 3}, 3) == 1.0
    assert accuracy("3", {"2": 1 / 3, "two": 1 / 3, "three": 1 / 3}, 3) == 0.5
