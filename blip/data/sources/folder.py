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
from blip.data.sources.refused import Refused, key_of
from blip.errors import BlipError


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples in the order of their paths; files that are no pictures are passed over."""
    if not path.is_dir():
        raise BlipError(f"source {path}: no such folder; check ingest.datasets in params.yaml")
    root = path.resolve()
    keys: set[str] = set()
    for file in sorted(path.rglob("*")):
        extension = file.suffix[1:].lower()
        if extension not in IMAGE_EXTENSIONS or not file.is_file():
            continue
        name = file.relative_to(path).as_posix()
        key = key_of(name)
        if not file.resolve().is_relative_to(root):
            yield Refused(key, UNSAFE, f"{name} is a link that leads out of {path}")
        elif key in keys:
            yield Refused(key, "duplicate", f"{name}: another file has the key {key}", file.read_bytes())
        else:
            keys.add(key)
            yield _sample(file, key, extension, source.origin)


def _sample(file: Path, key: str, extension: str, origin: str) -> Sample | Refused:
    data = file.read_bytes()
    texts = _texts(file)
    if not texts:
        return Refused(
            key, "no_caption", f"{file.name} has neither a text beside it nor a name in words", data
        )
    return Sample(key, data, extension, tuple(Caption(text, origin) for text in texts))


def _texts(file: Path) -> list[str]:
    sidecar = file.with_suffix(".txt")
    if sidecar.is_file() and not sidecar.is_symlink():
        lines = sidecar.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        return [" ".join(line.split()) for line in lines if line.strip()]
    name = re.sub(r"[\s_\-\d]+$", "", file.stem)
    words = re.sub(r"[\s_-]+", " ", name).strip()
    return [words] if words else []
