"""Question answering by a toy model and a real network, and the baseline that does not look."""

import pytest
import torch

from blip.data.sample import Question, Sample
from blip.data.text import clean_answer
from blip.data.video import frames
from blip.errors import BlipError
from blip.tasks.vqa import QuestionOnly, evaluate
from blip.tasks.vqa_answers import normalise
from tests.tasks.test_video import clip as solid_clip


def what(answer: str) -> Question:
    return Question("What colour is it?", {answer: 1.0}, open=True)


def yes_no(answer: str) -> Question:
    return Question("is it nice?", {answer: 1.0}, open=False)


@pytest.fixture
def training(painted):
    return [
        painted("t1", "red", questions=[what("red"), yes_no("yes")]),
        painted("t2", "blue", questions=[what("blue"), yes_no("yes")]),
        painted("t3", "red", questions=[what("red"), Question("what shape is it", {"square": 1.0}, True)]),
    ]


@pytest.fixture
def baseline(training):
    return QuestionOnly.count(training)


def test_the_baseline_gives_the_most_frequent_answer_to_the_same_question(baseline):
    assert baseline.answer("what colour is it") == "red"
    assert baseline.answer("is it nice?") == "yes"


def test_the_baseline_falls_back_on_how_the_question_begins_and_then_on_anything(baseline):
    assert baseline.answer("is it far") == "yes"
    assert baseline.answer("what shape has the thing") == "square"
    assert baseline.answer("who?") in {"red", "yes"}


def test_equal_counts_do_not_depend_on_the_order_of_the_data(training):
    there = QuestionOnly.count(training).answers()
    assert there == QuestionOnly.count(training[::-1]).answers() == ["red", "yes", "blue", "square"]


def test_a_baseline_without_training_answers_says_so():
    with pytest.raises(BlipError, match="no training answers"):
        QuestionOnly().answer("what?")


def test_model_and_baseline_are_scored_on_the_same_questions(colour_model, painted, baseline):
    samples = [
        painted("a", "red", questions=[what("red"), yes_no("no")]),
        painted("b", "blue", questions=[what("blue")]),
        painted("unasked", "blue"),
        painted("unanswered", "blue", questions=[Question("what?", {}, True)]),
    ]
    outcome = evaluate(colour_model, samples, baseline, keep=4, batch_size=2, seed=1)
    assert outcome.metrics == pytest.approx(
        {
            "vqa.accuracy": 2 / 3,
            "vqa.question_only": 1 / 3,
            "vqa.open_accuracy": 1.0,
            "vqa.question_only_open": 0.5,
            "vqa.yes_no_accuracy": 0.0,
            "vqa.question_only_yes_no": 0.0,
        }
    )
    assert {row["prediction"] for row in outcome.predictions} == {"red", "blue"}
    wrong = [example for example in outcome.examples["examples"] if not example["correct"]]
    assert [(example["question"], example["answer"]) for example in wrong] == [("is it nice?", "no")]


def test_the_answer_that_is_shown_is_the_one_that_most_have_given(colour_model, painted, baseline):
    asked = Question("what colour is it", {"blue": 0.3, "red": 1.0, "crimson": 0.6}, True)
    outcome = evaluate(
        colour_model, [painted("a", "red", questions=[asked])], baseline, keep=4, batch_size=2, seed=1
    )
    (shown,) = outcome.examples["examples"]
    assert (shown["answer"], shown["prediction"], shown["correct"]) == ("red", "red", True)
    assert outcome.predictions[0]["answer"] == "red"


@pytest.mark.parametrize(("share", "correct"), [(0.2, True), (0.1, False)])  # accuracies of 0.6 and 0.3
def test_an_answer_is_right_from_an_accuracy_of_a_half_on(colour_model, painted, baseline, share, correct):
    asked = Question("what colour is it", {"red": share, "blue": 1 - share}, True)
    outcome = evaluate(
        colour_model, [painted("a", "red", questions=[asked])], baseline, keep=4, batch_size=2, seed=1
    )
    assert outcome.examples["examples"][0]["correct"] is correct


def test_of_two_answers_by_two_people_both_are_right(colour_model, painted, baseline):
    asked = Question("what colour is it", {"red": 0.5, "crimson": 0.5}, True, annotators=2)
    outcome = evaluate(
        colour_model, [painted("a", "red", questions=[asked])], baseline, keep=4, batch_size=2, seed=1
    )
    assert outcome.metrics["vqa.accuracy"] == 1.0
    shown = outcome.examples["examples"][0]
    assert (shown["correct"], shown["accuracy"]) == (True, 1.0)


def test_questions_of_a_test_are_answered_for_the_server_that_has_their_answers(
    colour_model, painted, baseline
):
    asked = [Question("what colour is it", {}, True, id=7), Question("which?", {}, True)]
    samples = [painted("a", "red", questions=[what("blue")]), painted("b", "blue", questions=asked)]
    alone = evaluate(colour_model, samples, baseline, keep=4, batch_size=2, seed=1)
    outcome = evaluate(colour_model, samples, baseline, keep=4, batch_size=2, seed=1, of_tests=True)
    assert outcome.answers == [{"question_id": 7, "answer": "blue"}] and alone.answers == []
    assert (outcome.metrics, outcome.examples) == (alone.metrics, alone.examples)
    assert [row["accuracy"] for row in outcome.predictions] == [0.0, ""]
    assert alone.predictions == outcome.predictions[:1]


def test_a_clip_is_looked_at_by_the_tokens_of_its_frames(tiny_blip, baseline):
    clip = solid_clip([(255, 0, 0), (0, 0, 255)])
    samples = [Sample(f"c{n}", clip, "mp4", questions=(what("red"), yes_no("yes"))) for n in range(2)]
    outcome = evaluate(tiny_blip, samples, baseline, keep=4, batch_size=2, seed=1, frame_count=2)
    tokens = tiny_blip.encode_images(frames(clip, 2)).flatten(0, 1)[None]
    expected = tiny_blip.rank_answers(
        tokens, torch.tensor([0, 0]), ["What colour is it?", "is it nice?"], baseline.answers(), keep=4
    )
    assert [row["prediction"] for row in outcome.predictions] == 2 * expected
    assert {example["image"] for example in outcome.examples["examples"]} == {
        "images/c0-0.webp", "images/c1-0.webp"
    }  # fmt: skip


def test_questions_are_required(colour_model, painted, baseline):
    with pytest.raises(BlipError, match="questions with answers"):
        evaluate(colour_model, [painted("a", "red")], baseline, keep=4, batch_size=2, seed=1)


def test_a_real_network_answers_as_it_does_for_single_questions(tiny_blip, painted, baseline, colours):
    samples = [
        painted(
            f"k{n}", colour, questions=[what(colour), Question("what shape is it", {"square": 1.0}, True)]
        )
        for n, colour in enumerate(colours)
    ]
    outcome = evaluate(tiny_blip, samples, baseline, keep=16, batch_size=3, seed=1)
    asked = [(s.media, q.text) for s in samples for q in s.questions]
    expected = tiny_blip.answer([a[0] for a in asked], [a[1] for a in asked], baseline.answers())
    assert [row["prediction"] for row in outcome.predictions] == expected
    assert not torch.is_inference_mode_enabled()


def test_candidates_are_written_as_the_model_is_taught(painted):
    """Answers that are compared as "2", "0" and "t shirt" are taught as "two", "none" and "t-shirt"."""
    given = ["two", "two", "2", "none", "t-shirt", "an apple"]
    training = [painted(f"t{n}", "red", questions=[what(answer)]) for n, answer in enumerate(given)]
    answers = QuestionOnly.count(training).answers()
    assert set(answers) == {"two", "none", "an apple", "t-shirt"}
    assert {normalise(answer) for answer in answers} == {"2", "0", "apple", "t shirt"}


def test_a_candidate_has_the_tokens_that_training_has(tiny_blip, painted, monkeypatch):
    encoded = []
    whole = tiny_blip._encode
    monkeypatch.setattr(tiny_blip, "_encode", lambda texts: encoded.append(texts) or whole(texts))
    tokens = tiny_blip.encode_images([painted("a", "red").media])
    tiny_blip.rank_answers(tokens, torch.tensor([0]), ["what?"], ["T-shirt", "10:30"])
    assert encoded[0] == [clean_answer("T-shirt"), clean_answer("10:30")] == ["t-shirt", "10:30"]
