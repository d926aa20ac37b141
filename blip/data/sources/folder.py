"""Kind `folder`: pictures in a folder and the folders below it.

The captions of `cat.jpg` are the lines of `cat.txt`; without that file its name is the caption:
`old_red-car 2.jpg` is "old red car".
"""

import re
from collections.abc import Iterator
from pathlib import Path

from blip.config import Source
from blip.data.archive import UNSAFE
from blip.data.sample import IMAGE_EXTENSIONS, Caption, Sample
from blip.data.sources.cells import words
from blip.data.sources.files import content, files_below
from blip.data.sources.refused import NO_CAPTION, Refused, key_of
from blip.errors import BlipError


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples in the order of their paths; files that are no pictures are passed over."""
    if not path.is_dir():
        raise BlipError(f"source {path}: no such folder; check ingest.datasets in params.yaml")
    root = path.resolve()
    for file in files_below(path):
        extension = file.suffix[1:].lower()
        if extension not in IMAGE_EXTENSIONS:
            continue
        name = file.relative_to(path).as_posix()
        if not file.resolve().is_relative_to(root):
            yield Refused(key_of(name), UNSAFE, f"{name} is a link that leads out of {path}")
        else:
            yield _sample(file, key_of(name), extension, source.origin)


def _sample(file: Path, key: str, extension: str, origin: str) -> Sample | Refused:
    data = content(file, key)
    if isinstance(data, Refused):
        return data
    texts = _texts(file)
    if not texts:
        detail = f"{file.name} has neither a text beside it nor a name in words"
        return Refused(key, NO_CAPTION, detail, data)
    return Sample(key, data, extension, tuple(Caption(text, origin) for text in texts))


def _texts(file: Path) -> list[str]:
    sidecar = file.with_suffix(".txt")
    if sidecar.is_file() and not sidecar.is_symlink():
        lines = sidecar.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        return [words(line) for line in lines if line.strip()]
    named = in_words(file.stem)
    return [named] if named else []


def in_words(name: str) -> str:
    """A name as a text: `old_red-car 2` is "old red car"."""
    return re.sub(r"[\s_-]+", " ", re.sub(r"[\s_\-\d]+$", "", name)).strip()
