"""Kind `nlvr2`: a statement about two pictures that is true or false.

    train.json   a line each: {identifier: "train-10171-0-0", sentence, label: "True", directory: 59, ...}
    images/train/59/train-10171-0-img0.png, train-10171-0-img1.png

The statements about a pair are the questions of one sample, with the answer `true` or `false` and `open` False;
the left picture is its media, the right one its partner. The statements are held, packed: 15 MB for train.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from blip.config import Source
from blip.data.sample import Question, Sample
from blip.ingest.sources.annotations import Held, checked, find_file, pictures_of
from blip.ingest.sources.cells import words
from blip.ingest.sources.files import Folder, Media
from blip.ingest.sources.refused import Refused, key_of
from blip.ingest.sources.row import Row
from blip.ingest.sources.rows import read_json_lines

LABELS = {"true": "true", "false": "false"}
Stated = tuple[str, str | None, int | str | None]  # sentence, label if it is told, folder of the pictures


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Pairs in the order in which the file first names them.

    Raises:
        BlipError: there is no such file.
    """
    file = find_file(path, source.split, "train.json", "dev.json", "test*.json", "balanced_*.json")
    folder = pictures_of(source, path, file)
    stated = Held()

    def hold(entry: dict[str, Any]) -> Iterable[Refused]:
        pair, _, _ = entry["identifier"].rpartition("-")
        label = LABELS[str(entry["label"]).lower()] if "label" in entry else None
        stated.add(pair, (words(entry["sentence"]), label, entry.get("directory")))
        return ()

    for row in read_json_lines(file):
        if isinstance(row, Row):
            yield from checked(file, [row.values], hold, "line", row.number)
        else:
            yield row
    for pair in stated:
        yield _sample(folder, str(pair), stated.pop(pair))


def _sample(folder: Folder, pair: str, stated: list[Stated]) -> Sample | Refused:
    left, right = (_picture(folder, f"{pair}-img{side}.png", stated[0][2]) for side in (0, 1))
    if isinstance(left, Refused):
        return left
    if isinstance(right, Refused):
        return right
    asked = tuple(Question(text, {label: 1.0} if label else {}, open=False) for text, label, _ in stated)
    media = Sample(key_of(pair), left.data, left.extension, questions=asked)
    return replace(media, partner=right.data, partner_extension=right.extension)


def _picture(folder: Folder, name: str, directory: int | str | None) -> Media | Refused:
    """A picture; those of train lie in numbered folders."""
    deeper = (f"{directory}/{name}", f"train/{directory}/{name}") if directory is not None else ()
    return folder.find(name, *deeper)
