"""Kind `visual_genome`: its questions and answers, or the phrases for regions as captions.

    question_answers.json      [{id, qas: [{image_id, question, answer, qa_id}]}]
    region_descriptions.json   [{id, regions: [{image_id, phrase, ...}]}]
    VG_100K/2.jpg, VG_100K_2/1.jpg

One person answered each question. Beside VQA v2's ten such an answer weighs 0.2 in BLIP's recipe, which is the
share it has here. Nothing is held but one image's entry.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blip.config import Source
from blip.data.sample import Caption, Question, Sample
from blip.ingest.sources.annotations import each, find_file, pictures_of
from blip.ingest.sources.cells import words
from blip.ingest.sources.questions import GENOME_WEIGHT
from blip.ingest.sources.refused import Refused


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples with their questions, or with the phrases as captions; the full stop that ends an answer goes.

    Raises:
        BlipError: there is no such file, or it is no JSON.
    """
    file = find_file(path, source.split, "question_answers.json", "region_descriptions.json")
    folder = pictures_of(source, path, file)

    def make(entry: dict[str, Any]) -> Iterator[Sample | Refused]:
        number = int(entry["id"] if "id" in entry else entry["image_id"])
        questions = tuple(map(_question, entry.get("qas", ())))
        phrases = dict.fromkeys(words(region["phrase"]) for region in entry.get("regions", ()))
        found = folder.find(f"{number}.jpg")
        if isinstance(found, Refused):
            yield found
        else:
            captions = tuple(Caption(phrase, source.origin) for phrase in phrases)
            yield Sample(found.key, found.data, found.extension, captions, questions, name=found.renamed)

    yield from each(file, "item", make)


def _question(entry: dict[str, Any]) -> Question:
    answer = words(entry["answer"])
    return Question(words(entry["question"]), {answer.removesuffix(".") or answer: GENOME_WEIGHT}, open=True)
