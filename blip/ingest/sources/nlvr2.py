"""Kind `nlvr2`: a statement about two pictures that is true or false.

    train.json   a line each: {identifier: "train-10171-0-0", sentence, label: "True", directory: 59, ...}
    images/train/59/train-10171-0-img0.png, train-10171-0-img1.png

    nlvr_train.json   BLIP's list: [{sentence, label: "True", images: ["images/train/59/train-10171-0-img0.png", ...]}]

The statements about a pair are the questions of one sample, with the answer `true` or `false` and `open` False;
the left picture is its media, the right one its partner. The statements are held, packed: 15 MB for train.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from blip.config import Source
from blip.data.sample import Question, Sample
from blip.ingest.sources.annotations import Held, checked, each, find_file, pictures_of
from blip.ingest.sources.cells import words
from blip.ingest.sources.files import Folder, Media
from blip.ingest.sources.json_stream import is_list
from blip.ingest.sources.refused import Refused, key_of
from blip.ingest.sources.row import Row
from blip.ingest.sources.rows import read_json_lines

OFFICIAL = ("train.json", "dev.json", "test*.json", "balanced_*.json")
LABELS = {"true": "true", "false": "false"}
Pictures = list[str] | int | str | None  # their names, or the folder that they lie in
Stated = tuple[str, str | None, Pictures]  # sentence, label if it is told


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Pairs in the order in which the file first names them.

    Raises:
        BlipError: there is no such file.
    """
    file = find_file(path, source.split, *OFFICIAL, keys=("item.images",))
    folder = pictures_of(source, path, file)
    stated = Held()

    def hold(entry: dict[str, Any]) -> Iterable[Refused]:
        pair, pictures = _pair(entry)
        label = LABELS[str(entry["label"]).lower()] if "label" in entry else None
        stated.add(pair, (words(entry["sentence"]), label, pictures))
        return ()

    yield from each(file, "item", hold) if is_list(file) else _lines(file, hold)
    for pair in stated:
        yield _sample(folder, str(pair), stated.pop(pair))


def _lines(file: Path, hold: Callable[[dict[str, Any]], Iterable[Refused]]) -> Iterator[Sample | Refused]:
    for row in read_json_lines(file):
        if isinstance(row, Row):
            yield from checked(file, [row.values], hold, "line", row.number)
        else:
            yield row


def _pair(entry: dict[str, Any]) -> tuple[str, Pictures]:
    """What a pair is called, the same in either form of the file, and where its pictures are."""
    if "images" not in entry:
        return entry["identifier"].rpartition("-")[0], entry.get("directory")
    left, right = entry["images"]
    pair = PurePosixPath(left).stem.removesuffix("-img0")
    return pair if PurePosixPath(right).stem == f"{pair}-img1" else f"{left} {right}", [left, right]


def _sample(folder: Folder, pair: str, stated: list[Stated]) -> Sample | Refused:
    left, right = (_picture(folder, pair, side, stated[0][2]) for side in (0, 1))
    if isinstance(left, Refused):
        return left
    if isinstance(right, Refused):
        return right
    asked = tuple(Question(text, {label: 1.0} if label else {}, open=False) for text, label, _ in stated)
    media = Sample(key_of(pair), left.data, left.extension, questions=asked)
    return replace(media, partner=right.data, partner_extension=right.extension)


def _picture(folder: Folder, pair: str, side: int, pictures: Pictures) -> Media | Refused:
    """A picture; those of train lie in numbered folders, and a list may name folders above the one that is given."""
    if isinstance(pictures, list):
        parts = PurePosixPath(pictures[side]).parts
        return folder.find(*("/".join(parts[first:]) for first in range(len(parts))))
    name = f"{pair}-img{side}.png"
    deeper = (f"{pictures}/{name}", f"train/{pictures}/{name}") if pictures is not None else ()
    return folder.find(name, *deeper)
