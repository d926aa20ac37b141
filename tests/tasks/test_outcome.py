"""What an evaluation leaves to look at."""

import csv
import json

from PIL import Image

from blip.tasks.outcome import Outcome, Selection, choose, write_outcome


def test_the_choice_is_the_same_for_the_same_seed():
    correct = [n % 3 == 0 for n in range(300)]
    assert choose(correct, seed=7) == choose(correct, seed=7) != choose(correct, seed=8)


def test_right_and_wrong_are_shown_as_often_as_they_occur():
    selection = choose([n % 4 != 0 for n in range(400)], seed=1)
    assert (selection.right, selection.wrong) == (18, 6)
    assert (selection.right_of_all, selection.of) == (300, 400)
    assert len(set(selection.rows)) == 24
    assert sum(row % 4 != 0 for row in selection.rows) == 18


def test_a_nearly_perfect_model_still_shows_its_mistakes():
    selection = choose([n >= 10 for n in range(1000)], seed=1)
    assert (selection.right, selection.wrong) == (20, 4)


def test_as_many_are_shown_as_there_are():
    assert (choose([True] * 1000 + [False], seed=1).wrong, len(choose([False] * 5, seed=1).rows)) == (1, 5)
    assert choose([], seed=1).rows == []


def test_pictures_examples_and_predictions_are_written(tmp_path, painted):
    outcome = Outcome(
        metrics={"x.y": 1.0},
        examples={"examples": [{"image": "images/a.webp"}], "text_to_image": []},
        pictures=frozenset({"a"}),
        selection=Selection([0], 7, 1, 0, 1, 2),
        predictions=[{"key": "a", "caption": "naïve, blue"}, {"key": "b", "caption": ""}],
    )
    write_outcome(tmp_path, "captioning", outcome, [painted("a", "red"), painted("b", "blue")])
    written = json.loads((tmp_path / "examples.json").read_text())
    assert written["task"] == "captioning"
    assert written["examples"] == [{"image": "images/a.webp"}]
    assert written["selection"] == {"seed": 7, "right": 1, "wrong": 0, "right_of_all": 1, "of": 2}
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["a.webp"]
    with Image.open(tmp_path / "images/a.webp") as image:
        assert image.size == (24, 24)
    with (tmp_path / "predictions.csv").open(newline="") as handle:
        assert next(csv.DictReader(handle)) == {"key": "a", "caption": "naïve, blue"}
