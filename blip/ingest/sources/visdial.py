"""Kind `visdial`: VisDial 1.0, ten rounds of question and answer about a picture.

    visdial_1.0_train.json   {data: {questions: [...], answers: [...], dialogs: [{image_id, caption, dialog: [
                              {question: 7, answer: 4, answer_options: [100 numbers], gt_index: 3}]}]}, split}
    VisualDialog_val2018/VisualDialog_val2018_000000185565.jpg, train2014/COCO_train2014_000000378466.jpg

A round becomes a question whose text begins with the rounds before it and whose `candidates` are the answers to
rank. The texts that the numbers stand for are held as one list of strings: 60 MB for train.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blip.config import Source
from blip.data.sample import Caption, Question, Sample
from blip.ingest.sources.annotations import each, find_file, pictures_of
from blip.ingest.sources.cells import words
from blip.ingest.sources.coco import number_of
from blip.ingest.sources.json_stream import stream
from blip.ingest.sources.refused import Refused

NAMES = ("COCO_train2014", "COCO_val2014", "VisualDialog_val2018", "VisualDialog_test2018")


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples with the caption and a question a round; a round whose right answer is not told has no answer.

    Raises:
        BlipError: there is no such file, or it is no JSON.
    """
    file = find_file(path, source.split, "visdial_*.json")
    folder = pictures_of(source, path, file)
    asked, answers = (
        [words(str(text)) for text in stream(file, f"data.{name}.item")] for name in ("questions", "answers")
    )

    def make(dialog: dict[str, Any]) -> Iterator[Sample | Refused]:
        number = number_of(dialog["image_id"])
        rounds = tuple(_rounds(dialog["dialog"], asked, answers))
        found = folder.find(*(f"{name}_{number:012d}.jpg" for name in NAMES))
        if isinstance(found, Refused):
            yield found
        else:
            captions = (Caption(words(dialog["caption"]), source.origin),)
            yield Sample(
                found.key,
                found.data,
                found.extension,
                captions,
                rounds,
                truth={"image_id": number},
                name=found.renamed,
            )

    yield from each(file, "data.dialogs.item", make)


def _rounds(dialog: list[dict[str, Any]], asked: list[str], answers: list[str]) -> Iterator[Question]:
    history = ""
    for turn in dialog:
        if "question" not in turn:
            continue
        text = f"{history}{asked[turn['question']].rstrip('?').rstrip()}?"
        options = tuple(answers[number] for number in turn.get("answer_options", ()))
        right = answers[turn["answer"]] if "answer" in turn else None
        if right is None and "gt_index" in turn:
            right = options[turn["gt_index"]]
        if options or right:
            yield Question(text, {right: 1.0} if right else {}, open=True, candidates=options)
        history = f"{text} {right.rstrip('.')}. " if right else f"{text} "
