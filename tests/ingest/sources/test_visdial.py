"""VisDial 1.0 in the exact form of its files."""

import json
from pathlib import Path

from blip.data.sample import Question, annotations_to_json, sample_from_json

from .reading import details, items, samples, texts, write

QUESTIONS = ["is the photo in color", "how many people are there", "is he old?"]
ANSWERS = ["yes", "no", "2.", "i can't tell", "maybe"]


def write_visdial(folder: Path, split: str, dialogs: list[dict]) -> None:
    data = {"questions": QUESTIONS, "answers": ANSWERS, "dialogs": dialogs}
    write(
        folder / f"visdial_1.0_{split}.json",
        json.dumps({"data": data, "split": split, "version": "1.0"}),
    )


def turn(question: int, answer: int, options: list[int]) -> dict:
    return {
        "answer": answer,
        "gt_index": options.index(answer),
        "answer_options": options,
        "question": question,
    }


def test_a_round_carries_its_history_and_the_answers_to_rank(tmp_path: Path) -> None:
    dialog = [turn(0, 0, [1, 0, 4]), turn(1, 2, [2, 3, 1]), turn(2, 3, [0, 1, 3])]
    caption = "a man  rides a bike"
    write_visdial(tmp_path, "train", [{"image_id": 378466, "dialog": dialog, "caption": caption}])
    write(tmp_path / "train2014/COCO_train2014_000000378466.jpg", "D")
    (sample,) = samples(items(tmp_path, "visdial", "human")).values()
    assert (sample.key, sample.truth) == ("COCO_train2014_000000378466", {"image_id": 378466})
    assert texts(sample) == [("a man rides a bike", "human")]
    first = "is the photo in color?"
    second = f"{first} yes. how many people are there?"
    assert sample.questions == (
        Question(first, {"yes": 1.0}, open=True, candidates=("no", "yes", "maybe")),
        Question(second, {"2.": 1.0}, open=True, candidates=("2.", "i can't tell", "no")),
        Question(
            f"{second} 2. is he old?",
            {"i can't tell": 1.0},
            open=True,
            candidates=("yes", "no", "i can't tell"),
        ),
    )


def test_of_a_test_dialog_the_last_round_is_asked(tmp_path: Path) -> None:
    dialog = [{"answer": 0, "question": 0}, {"question": 1, "answer_options": [0, 1, 2]}]
    write_visdial(tmp_path, "test", [{"image_id": 1, "dialog": dialog, "caption": "c"}])
    write(tmp_path / "VisualDialog_test2018/VisualDialog_test2018_000000000001.jpg", "D")
    (sample,) = samples(items(tmp_path, "visdial")).values()
    assert sample.questions[-1] == Question(
        "is the photo in color? yes. how many people are there?",
        {},
        open=True,
        candidates=("yes", "no", "2."),
    )


def test_the_candidates_come_back_from_a_shard(tmp_path: Path) -> None:
    write_visdial(tmp_path, "val", [{"image_id": 2, "dialog": [turn(0, 0, [1, 0])], "caption": "c"}])
    write(tmp_path / "VisualDialog_val2018/VisualDialog_val2018_000000000002.jpg", "D")
    (sample,) = samples(items(tmp_path, "visdial")).values()
    again = sample_from_json(sample.key, sample.media, "jpg", annotations_to_json(sample))
    assert again.questions == sample.questions


def test_a_dialog_that_points_nowhere_is_refused(tmp_path: Path) -> None:
    dialogs = [
        {"image_id": 1, "dialog": [turn(99, 0, [0])], "caption": "c"},
        {"image_id": 2, "dialog": [turn(0, 0, [0])], "caption": "c"},
    ]
    write_visdial(tmp_path, "train", dialogs)
    assert details(items(tmp_path, "visdial")) == [
        ("broken_entry", "visdial_1.0_train.json, data.dialogs 0: list index out of range"),
        ("missing_file", f"COCO_train2014_000000000002.jpg is listed, its file is not in {tmp_path}"),
    ]
