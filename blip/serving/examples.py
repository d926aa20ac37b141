"""Pictures of the sample to begin with, where the page is opened in the project's folder."""

import csv
from pathlib import Path
from typing import NamedTuple

from blip.data.archive import read_members

SAMPLE = Path("data/sample")
CAPTIONED, ASKED = SAMPLE / "test", SAMPLE / "vqa/test"


class Example(NamedTuple):
    """A picture's file and the first text that goes with it."""

    picture: Path
    text: str


def captioned(into: Path, count: int) -> list[Example]:
    """So many pictures of the test style with their captions; none where there is no sample."""
    return _chosen(CAPTIONED, "captions.csv", "caption", into, count)


def asked(into: Path, count: int) -> list[Example]:
    """So many pictures of shapes with a question each."""
    return _chosen(ASKED, "questions.csv", "question", into, count)


def _chosen(folder: Path, table: str, column: str, into: Path, count: int) -> list[Example]:
    """Pictures out of the middle of each part of the table, written below `into`."""
    if not (folder / table).is_file():
        return []
    with (folder / table).open(encoding="utf-8", newline="") as file:
        rows: dict[str, str] = {}
        for row in csv.DictReader(file):
            rows.setdefault(row["image"], row[column])
    step = max(len(rows) // count, 1)
    names = sorted(rows)[step // 2 :: step][:count]
    target = into / folder.name / folder.parent.name
    target.mkdir(parents=True)
    examples = []
    for member in read_members(folder / "images.tar"):
        if (key := Path(member.name).stem) in names and not member.problem:
            (target / member.name).write_bytes(member.data)
            examples.append(Example(target / member.name, rows[key]))
    return examples
