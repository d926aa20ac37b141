"""Kind `vqav2`: VQA v2's two files, or the one list into which BLIP's authors joined them.

    v2_OpenEnded_mscoco_train2014_questions.json   {data_subtype, questions: [{question_id, image_id, question}]}
    v2_mscoco_train2014_annotations.json           {annotations: [{question_id, answers: [{answer}], answer_type}]}
    train2014/COCO_train2014_000000458752.jpg

    vqa_train.json   [{question_id, question, answer: [...], image: "train2014/COCO_....jpg", dataset: "vqa"}]
    vg_qa.json       [{question_id, question, answer: "...", image, dataset: "vg"}]

Questions and answers are held, packed, to bring those of one image together: 160 MB for the 440,000 of train.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from blip.config import Source
from blip.data.quarantine import NO_ANSWER
from blip.data.sample import Sample
from blip.ingest.sources.annotations import Held, each, find_file, pictures_of
from blip.ingest.sources.cells import words
from blip.ingest.sources.json_stream import is_list, stream
from blip.ingest.sources.questions import GENOME_WEIGHT, sample_of, shares
from blip.ingest.sources.refused import MISSING, Refused, key_of

YES_NO = "yes/no"


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples with the questions about them in the order of the file; test questions have no answers.

    Questions to train on that have none are refused, and pictures about which no other is asked are left out.

    Raises:
        BlipError: there are no such files, or one is no JSON.
    """
    file = _questions_of(find_file(path, source.split, "*OpenEnded*questions.json"))
    folder = pictures_of(source, path, file)
    asked, annotated = Held(), _annotations_of(file)
    lacking = "" if is_list(file) or annotated.is_file() else f": there is no {annotated.name}"
    yield from _joined(file, asked) if is_list(file) else _official(file, asked)
    for image in asked:
        questions = asked.pop(image)
        if source.role == "train":
            answered = [question for question in questions if question[1]]
            for text, *_ in (question for question in questions if not question[1]):
                yield Refused(key_of(str(image)), NO_ANSWER, f"{text!r} is not answered{lacking}"[:300])
            questions = answered
        if questions:
            yield sample_of(folder, str(image), questions)


def _official(file: Path, asked: Held) -> Iterator[Sample | Refused]:
    answers, annotated = Held(), _annotations_of(file)
    subtype = next(stream(file, "data_subtype"), None) or "train2014"
    subtype = {"test-dev2015": "test2015"}.get(subtype, subtype)

    def hold(entry: dict[str, Any]) -> Iterable[Refused]:
        given = shares(answer["answer"] for answer in entry["answers"])
        answers.add(int(entry["question_id"]), (given, entry["answer_type"] != YES_NO))
        return ()

    def join(entry: dict[str, Any]) -> Iterable[Refused]:
        number = int(entry["question_id"])
        given, open_ = next(iter(answers.pop(number)), ({}, True))
        name = f"COCO_{subtype}_{int(entry['image_id']):012d}.jpg"
        asked.add(name, (words(entry["question"]), given, open_, number))
        return ()

    if annotated.is_file():
        yield from each(annotated, "annotations.item", hold)
    yield from each(file, "questions.item", join)
    for number in answers:
        answers.pop(number)
        yield Refused(str(number), MISSING, f"{annotated.name}: question {number} is not in {file.name}")


def _joined(file: Path, asked: Held) -> Iterator[Sample | Refused]:
    def hold(entry: dict[str, Any]) -> Iterable[Refused]:
        answer = entry.get("answer", [])
        given = [answer] if isinstance(answer, str) else answer
        weight = GENOME_WEIGHT if entry.get("dataset") == "vg" else 1.0
        open_ = not {words(text).lower() for text in given} & {"yes", "no"}
        number = entry.get("question_id")
        told = number if isinstance(number, int) else None
        asked.add(entry["image"], (words(entry["question"]), shares(given, weight), open_, told))
        return ()

    yield from each(file, "item", hold)


def _questions_of(file: Path) -> Path:
    """The file of questions, where that of the annotations was named."""
    if file.name.endswith("annotations.json"):
        name = file.name.replace("mscoco_", "OpenEnded_mscoco_", 1).replace("annotations", "questions")
        return file.with_name(name)
    return file


def _annotations_of(questions: Path) -> Path:
    return questions.with_name(
        questions.name.replace("OpenEnded_", "", 1).replace("questions", "annotations")
    )
