"""Kind `vqa`: a folder with `questions.csv` (image, question, answer, open) and its pictures.

Several rows with the same image and question are the answers of several people. `open` is 1 where the
question does not itself name its possible answers; without that column it is where one is neither yes nor no.
`columns` may name the one of the pictures as `image` and that of the questions as `caption`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from blip.config import Columns, Source
from blip.data.quarantine import NO_ANSWER
from blip.data.sample import Question, Sample
from blip.ingest.sources.cells import words
from blip.ingest.sources.columns import IMAGE, pick_one
from blip.ingest.sources.files import Folder, Media, find_in_tar
from blip.ingest.sources.guess import told_of_files
from blip.ingest.sources.names import plain_name
from blip.ingest.sources.picture_rows import no_picture
from blip.ingest.sources.questions import shares
from blip.ingest.sources.refused import Refused, key_of
from blip.ingest.sources.rows import column_names, find_table, read_rows
from blip.ingest.sources.truth import Truth

OPEN = "open"
QUESTION, ANSWER = ("question", "questions", "query"), ("answer", "answers", "response")
_TRUE, _CLOSED = {"1", "1.0", "true", "yes"}, {"yes", "no"}

# The answers to a question, and whether it is open if that is told
Asked = dict[tuple[str, bool | None], list[str]]


def files_of(source: Source, path: Path) -> list[Path]:
    """The table of a source and, if there is one, the tar of its pictures."""
    table, tar = find_table(path, "questions", told=told_of_files), path / "images.tar"
    return [table, tar] if tar.is_file() and not source.images else [table]


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples with their questions, in the order of the archive or else of the table; the questions are held.

    Raises:
        BlipError: there is no table, or it lacks a column.
    """
    table, *tars = files_of(source, path)
    names = column_names(table)
    columns = _columns(names, source.columns or Columns(), table)
    questions: dict[str, Asked] = {}
    for row in read_rows(table, [*columns, OPEN] if OPEN in names else columns):
        if isinstance(row, Refused):
            yield row
            continue
        image, text, answer = (row.text(column) for column in columns)
        if not image.strip():
            yield no_picture(key_of(table.stem), row.number, [text])
            continue
        asked = questions.setdefault(plain_name(image), {})
        if words(text) and words(answer):
            open_ = row.text(OPEN).strip().lower() in _TRUE if OPEN in names else None
            asked.setdefault((words(text), open_), []).append(answer)
        else:
            yield Refused(
                key_of(image), NO_ANSWER, f"line {row.number}: {text!r} is answered {answer!r}"[:200]
            )
    truth = Truth.beside(table)
    known = {name: truth.of(name) for name in questions}
    truth.tell()
    for item in _media(source, table, tars, questions):
        if isinstance(item, Refused):
            yield item
            continue
        asked = questions[item.name]
        if not asked:
            yield Refused(item.key, "no_question", f"{item.name} has no question with an answer", item.data)
            continue
        found = tuple(
            Question(text, shares(given), _is_open(given) if open_ is None else open_, annotators=len(given))
            for (text, open_), given in asked.items()
        )
        yield Sample(
            item.key, item.data, item.extension, questions=found, truth=known[item.name], name=item.renamed
        )


def _columns(names: list[str], given: Columns, table: Path) -> list[str]:
    return [
        pick_one(names, given.image, IMAGE, "image", table),
        pick_one(names, given.caption, QUESTION, "caption", table, "question"),
        pick_one(names, None, ANSWER, "answer", table),
    ]


def _is_open(answers: list[str]) -> bool:
    return not {words(answer).lower() for answer in answers} <= _CLOSED


def _media(
    source: Source, table: Path, tars: list[Path], wanted: dict[str, Asked]
) -> Iterator[Media | Refused]:
    if tars:
        yield from find_in_tar(tars[0], wanted)
        return
    folder = Folder.of(source.images, table.parent)
    for name in wanted:
        item = folder.find(name)
        yield item if isinstance(item, Refused) else replace(item, name=name)
    if not source.images:
        yield from folder.unlisted(table)
