"""Kind `vqa`: a folder with `questions.csv` (image, question, answer, open) and its pictures.

Several rows with the same image and question are the answers of several people. `open` is 1 where the
question does not itself name its possible answers.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from blip.config import Source
from blip.data.sample import Question, Sample
from blip.data.sources.files import find_media
from blip.data.sources.refused import Refused
from blip.data.sources.rows import find_table, read_rows, read_truth

_TRUE = {"1", "true", "yes"}


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples with their questions, in the order of the archive or else of the table."""
    questions = _questions(path)
    truth = read_truth(path)
    for item in find_media(path, "images.tar", questions):
        if isinstance(item, Refused):
            yield item
            continue
        asked = questions[item.name]
        if not asked:
            yield Refused(item.key, "no_question", f"{item.name} has no question with an answer", item.data)
            continue
        yield Sample(
            key=item.key,
            media=item.data,
            extension=item.extension,
            questions=tuple(_question(text, open_, answers) for (text, open_), answers in asked.items()),
            truth=truth.get(item.name),
        )


def _questions(path: Path) -> dict[str, dict[tuple[str, bool], Counter[str]]]:
    """Per image, per question and whether it is open: how many gave which answer."""
    questions: dict[str, dict[tuple[str, bool], Counter[str]]] = {}
    for row in read_rows(find_table(path, "questions"), ["image", "question", "answer", "open"]):
        asked = questions.setdefault(row["image"], {})
        text, answer = " ".join(row["question"].split()), " ".join(row["answer"].split())
        if text and answer:
            asked.setdefault((text, row["open"].strip().lower() in _TRUE), Counter())[answer] += 1
    return questions


def _question(text: str, open_: bool, answers: Counter[str]) -> Question:
    total = answers.total()
    return Question(text, {answer: count / total for answer, count in answers.items()}, open_)
