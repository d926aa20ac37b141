"""VQA v2, Visual Genome and BLIP's lists of both, in the exact form of the published files."""

import json
from pathlib import Path

import pytest

from blip.data.sample import Question

from .reading import details, items, reasons, samples, texts, write

PICTURE = "COCO_train2014_000000458752"


def annotation(number: int, image: int, answers: list[str], kind: str) -> dict:
    """An entry of v2_mscoco_train2014_annotations.json."""
    given = [
        {"answer": answer, "answer_confidence": "yes", "answer_id": n} for n, answer in enumerate(answers, 1)
    ]
    return {
        "question_type": "what is this",
        "multiple_choice_answer": answers[0],
        "answers": given,
        "image_id": image,
        "answer_type": kind,
        "question_id": number,
    }


def question(number: int, image: int, text: str) -> dict:
    return {"image_id": image, "question": text, "question_id": number}


ANNOTATIONS = [
    annotation(458752000, 458752, ["net"] * 8 + ["netting", "mesh"], "other"),
    annotation(262146000, 262146, ["yes"] * 9 + ["no"], "yes/no"),
    annotation(458752001, 458752, ["22"] * 10, "number"),
]
QUESTIONS = [
    question(458752000, 458752, "What is this photo taken looking through?"),
    question(262146000, 262146, "Is the sky blue?"),
    question(458752001, 458752, "What is on the  back?"),
]


def write_vqa(folder: Path, questions: list[dict], annotations: list[dict] | None, year: str) -> None:
    """Both files of a split."""
    licence = {"url": "http://creativecommons.org/licenses/by/4.0/", "name": "Creative Commons"}
    about = {"info": {"version": "2.0"}, "license": licence, "data_subtype": year}
    asked = {**about, "task_type": "Open-Ended", "data_type": "mscoco", "questions": questions}
    write(folder / f"v2_OpenEnded_mscoco_{year}_questions.json", json.dumps(asked))
    if annotations is not None:
        answered = {**about, "annotations": annotations, "data_type": "mscoco"}
        write(folder / f"v2_mscoco_{year}_annotations.json", json.dumps(answered))


@pytest.fixture
def vqa(tmp_path: Path) -> Path:
    write_vqa(tmp_path, QUESTIONS, ANNOTATIONS, "train2014")
    for number in (458752, 262146):
        write(tmp_path / f"train2014/COCO_train2014_{number:012d}.jpg", "V")
    return tmp_path


def test_the_ten_answers_become_shares_and_yes_no_is_not_open(vqa: Path) -> None:
    found = samples(items(vqa, "vqav2", "human"))
    assert list(found) == [PICTURE, "COCO_train2014_000000262146"]
    assert found[PICTURE].questions == (
        Question(
            "What is this photo taken looking through?",
            {"net": 0.8, "netting": 0.1, "mesh": 0.1},
            open=True,
            id=458752000,
        ),
        Question("What is on the back?", {"22": 1.0}, open=True, id=458752001),
    )
    assert found["COCO_train2014_000000262146"].questions == (
        Question("Is the sky blue?", {"yes": 0.9, "no": 0.1}, open=False, id=262146000),
    )


def test_either_file_may_be_named(vqa: Path) -> None:
    for name in ("v2_OpenEnded_mscoco_train2014_questions.json", "v2_mscoco_train2014_annotations.json"):
        assert len(samples(items(vqa / name, "vqav2"))) == 2


def test_test_questions_have_no_answers(tmp_path: Path) -> None:
    write_vqa(tmp_path, [question(1, 16, "Why?")], None, "test-dev2015")
    write(tmp_path / "test2015/COCO_test2015_000000000016.jpg", "T")
    (sample,) = samples(items(tmp_path, "vqav2", role="evaluation")).values()
    assert sample.questions == (Question("Why?", {}, open=True, id=1),)


def test_blips_list_of_test_questions_has_no_answers(tmp_path: Path) -> None:
    entry = {"question_id": 262144000, "question": "Why?", "image": "test2015/1.jpg", "dataset": "vqa"}
    write(tmp_path / "vqa_test.json", json.dumps([entry, {**entry, "question_id": "q2"}]))
    write(tmp_path / "test2015/1.jpg", "T")
    (sample,) = samples(items(tmp_path / "vqa_test.json", "vqav2", role="evaluation")).values()
    assert [question.id for question in sample.questions] == [262144000, None]
    assert details(items(tmp_path / "vqa_test.json", "vqav2"))[0] == ("no_answer", "'Why?' is not answered")


def test_questions_to_train_on_have_answers(vqa: Path) -> None:
    write_vqa(vqa, [*QUESTIONS, question(8, 458752, "Why?")], ANNOTATIONS, "train2014")
    found = items(vqa, "vqav2")
    assert [len(sample.questions) for sample in samples(found).values()] == [2, 1]
    assert details(found) == [("no_answer", "'Why?' is not answered")]
    (vqa / "v2_mscoco_train2014_annotations.json").unlink()
    found = items(vqa, "vqav2")
    assert samples(found) == {}
    assert details(found)[0] == (
        "no_answer",
        "'What is this photo taken looking through?' is not answered: "
        "there is no v2_mscoco_train2014_annotations.json",
    )


def test_what_does_not_join_is_refused(vqa: Path) -> None:
    extra = [annotation(7, 458752, ["a"], "other"), {"question_id": 8}]
    write_vqa(
        vqa, [*QUESTIONS, question(9, 5, "Gone?"), {"question": "?"}], [*ANNOTATIONS, *extra], "train2014"
    )
    found = items(vqa, "vqav2", role="evaluation")
    assert len(samples(found)) == 2
    assert details(found) == [
        ("broken_entry", "v2_mscoco_train2014_annotations.json, annotations 4: no 'answers'"),
        ("broken_entry", "v2_OpenEnded_mscoco_train2014_questions.json, questions 4: no 'question_id'"),
        (
            "missing_file",
            "v2_mscoco_train2014_annotations.json: question 7 is not in v2_OpenEnded_mscoco_train2014_questions.json",
        ),
        ("missing_file", f"COCO_train2014_000000000005.jpg is listed, its file is not in {vqa}"),
    ]


def test_blips_lists_are_read_with_genomes_weight(tmp_path: Path) -> None:
    vqa_train = [
        {
            "question_id": 262148000,
            "question": "Where is he looking?",
            "answer": ["down"] * 9 + ["at table"],
            "image": "val2014/COCO_val2014_000000262148.jpg",
            "dataset": "vqa",
        }
    ]
    vg_qa = [
        {
            "question_id": 986769,
            "question": "What color is the clock?",
            "answer": "green",
            "image": "VG_100K_2/1.jpg",
            "dataset": "vg",
        }
    ]
    write(tmp_path / "vqa_train.json", json.dumps(vqa_train))
    write(tmp_path / "vg_qa.json", json.dumps(vg_qa))
    write(tmp_path / "coco/val2014/COCO_val2014_000000262148.jpg", "V")
    write(tmp_path / "vg/VG_100K_2/1.jpg", "G")
    (asked,) = samples(items(tmp_path / "vqa_train.json", "vqav2", images=str(tmp_path / "coco"))).values()
    assert asked.questions == (
        Question("Where is he looking?", {"down": 0.9, "at table": 0.1}, open=True, id=262148000),
    )
    (genome,) = samples(items(tmp_path / "vg_qa.json", "vqav2", images=str(tmp_path / "vg"))).values()
    assert genome.questions == (Question("What color is the clock?", {"green": 0.2}, open=True, id=986769),)


def test_visual_genomes_questions_weigh_a_fifth(tmp_path: Path) -> None:
    qas = [
        {
            "a_objects": [],
            "question": "What color is the clock?",
            "image_id": 1,
            "qa_id": 986768,
            "answer": "Green.",
            "q_objects": [],
        },
        {
            "a_objects": [],
            "question": "Who?",
            "image_id": 1,
            "qa_id": 986777,
            "answer": "A man.",
            "q_objects": [],
        },
    ]
    entries = [{"id": 1, "qas": qas}, {"id": 3, "qas": []}, {"id": 4, "qas": [{"question": "Why?"}]}]
    write(tmp_path / "question_answers.json", json.dumps(entries))
    for name in ("VG_100K_2/1.jpg", "VG_100K/3.jpg"):
        write(tmp_path / name, "G")
    found = items(tmp_path, "visual_genome")
    assert samples(found)["1"].questions == (
        Question("What color is the clock?", {"Green": 0.2}, open=True),
        Question("Who?", {"A man": 0.2}, open=True),
    )
    assert reasons(found) == {"3": "no_caption", "question_answers-entry-2": "broken_entry"}


def test_visual_genomes_phrases_are_captions(tmp_path: Path) -> None:
    regions = [
        {
            "region_id": n,
            "width": 82,
            "height": 139,
            "image_id": 1,
            "phrase": phrase,
            "y": 57,
            "x": 421,
        }
        for n, phrase in enumerate(["the clock is green ", "a shade tree", "a shade tree"], 1382)
    ]
    write(tmp_path / "region_descriptions.json", json.dumps([{"regions": regions, "id": 1}]))
    write(tmp_path / "VG_100K_2/1.jpg", "G")
    (sample,) = samples(items(tmp_path, "visual_genome", "human")).values()
    assert texts(sample) == [("the clock is green", "human"), ("a shade tree", "human")]
