"""How many files and folders a source has that may lack samples nobody counts: cut tars and tables, closed folders.

count_packs(source)     # 2 of `laion/00000.tar, 00001.tar.gz, 00000.parquet`, of which the tables are not read
"""

import os
from collections.abc import Callable
from pathlib import Path

from blip.config import Source, SourceKind
from blip.ingest.sources import hf, table, video, vqa, webdataset


def count_packs(source: Source) -> int:
    """How many files of many samples a source has, of those that its kind reads."""
    count = COUNTED.get(source.kind)
    return count(source, Path(source.source)) if count else 0


def _folders(_: Source, path: Path) -> int:
    """The folder itself and those below; a link to one is one."""
    return 1 + sum(len(folders) for _, folders, _ in os.walk(path))


COUNTED: dict[SourceKind, Callable[[Source, Path], int]] = {
    "webdataset": lambda _, path: len(webdataset.files_of(path)),
    "hf": lambda source, path: len(hf.files_of(source, path)),
    "table": lambda source, path: len(table.files_of(source, path)),
    "video": lambda source, path: len(video.files_of(source, path)),
    "vqa": lambda source, path: len(vqa.files_of(source, path)),
    "folder": _folders,
    "imagefolder": _folders,
}
