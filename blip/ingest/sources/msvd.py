"""Kind `msvd`: the Microsoft Research video descriptions, and MSVD-QA.

    AllVideoDescriptions.txt   -4wsuPCjDBc_5_15 a squirrel is eating a peanut in its shell
    train_qa.json              [{id, video_id: 1, question, answer}], with youtube_mapping.txt: -4wsuPCjDBc_5_15 vid1
    YouTubeClips/-4wsuPCjDBc_5_15.avi

The descriptions are held, packed: 6 MB for all 80,000.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from blip.config import Source
from blip.data.sample import Caption, Sample
from blip.ingest.sources.annotations import Held, find_file, pictures_of
from blip.ingest.sources.cells import words
from blip.ingest.sources.files import Folder
from blip.ingest.sources.refused import Refused, key_of
from blip.ingest.sources.row import BROKEN_ROW
from blip.ingest.sources.video_qa import read_list

MAPPING = "youtube_mapping.txt"
LINE = re.compile(r"([\w-]+_\d+_\d+)\s+(\S.*)")


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Clips with their captions or questions, in the order in which the file first names them.

    Raises:
        BlipError: there is no such file, or it is no JSON.
    """
    file = find_file(path, source.split, "AllVideoDescriptions.txt")
    folder = pictures_of(source, path, file)
    if file.suffix == ".json":
        names = _mapping(file.parent)
        yield from read_list(file, folder, lambda number: names.get(f"vid{number}", f"vid{number}"))
    else:
        yield from _described(source, file, folder)


def _described(source: Source, file: Path, folder: Folder) -> Iterator[Sample | Refused]:
    described = Held()
    with file.open(encoding="utf-8-sig", errors="replace") as handle:
        for number, line in enumerate(handle, 1):
            found = LINE.fullmatch(line.strip())
            if found:
                described.add(found[1], words(found[2]))
            elif line.strip() and not line.startswith("#"):
                detail = f"{file.name}, line {number}: not VIDEO_START_END and a description"
                yield Refused(key_of(f"{file.stem}-line-{number}"), BROKEN_ROW, detail, line.encode())
    for name in described:
        clip, texts = folder.find(str(name)), described.pop(name)
        if isinstance(clip, Refused):
            yield clip
        else:
            captions = tuple(Caption(text, source.origin) for text in texts)
            yield Sample(clip.key, clip.data, clip.extension, captions, name=clip.renamed)


def _mapping(folder: Path) -> dict[str, str]:
    """The clips' names by the numbers that MSVD-QA gives them."""
    path = folder / MAPPING
    if not path.is_file():
        return {}
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {line[1]: line[0] for line in lines if len(line) == 2}
