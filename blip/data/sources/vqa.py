"""Kind `vqa`: a folder with `questions.csv` (image, question, answer, open) and its pictures.

Several rows with the same image and question are the answers of several people. `open` is 1 where the
question does not itself name its possible answers.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from blip.config import Source
from blip.data.sample import Question, Sample
from blip.data.sources.cells import words
from blip.data.sources.files import Folder, Media, find_in_tar
from blip.data.sources.questions import shares
from blip.data.sources.refused import Refused, key_of
from blip.data.sources.rows import find_table, read_rows, read_truth

NO_ANSWER = "no_answer"
_TRUE = {"1", "true", "yes"}
COLUMNS = ("image", "question", "answer", "open")

Asked = dict[tuple[str, bool], list[str]]  # the answers to a question and whether it is open


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples with their questions, in the order of the archive or else of the table; the questions are held."""
    questions: dict[str, Asked] = {}
    for row in read_rows(find_table(path, "questions"), COLUMNS):
        if isinstance(row, Refused):
            yield row
            continue
        image, text, answer, open_ = (row.text(column) for column in COLUMNS)
        asked = questions.setdefault(image, {})
        if words(text) and words(answer):
            asked.setdefault((words(text), open_.strip().lower() in _TRUE), []).append(answer)
        else:
            yield Refused(
                key_of(image), NO_ANSWER, f"line {row.number}: {text!r} is answered {answer!r}"[:200]
            )
    truth = read_truth(path)
    for item in _media(source, path, questions):
        if isinstance(item, Refused):
            yield item
            continue
        asked = questions[item.name]
        if not asked:
            yield Refused(item.key, "no_question", f"{item.name} has no question with an answer", item.data)
            continue
        found = tuple(
            Question(text, shares(given), open_, annotators=len(given))
            for (text, open_), given in asked.items()
        )
        yield Sample(item.key, item.data, item.extension, questions=found, truth=truth.get(item.name))


def _media(source: Source, path: Path, wanted: dict[str, Asked]) -> Iterator[Media | Refused]:
    tar = path / "images.tar"
    if tar.is_file() and not source.images:
        return find_in_tar(tar, wanted)
    folder = Folder.of(source.images, path)
    found = ((name, folder.find(name)) for name in wanted)
    return (item if isinstance(item, Refused) else replace(item, name=name) for name, item in found)
