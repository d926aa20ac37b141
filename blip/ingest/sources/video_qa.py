"""Question answering about clips: lists of {question, answer, video_id}, as MSRVTT-QA and MSVD-QA have them.

yield from read_list(file, folder, lambda number: f"video{number}")

The list is held, packed, to bring the questions about one clip together: 20 MB for MSRVTT-QA's 160,000.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from blip.data.sample import Sample
from blip.ingest.sources.annotations import Held, each
from blip.ingest.sources.cells import words
from blip.ingest.sources.files import Folder
from blip.ingest.sources.questions import sample_of, shares
from blip.ingest.sources.refused import Refused


def read_list(file: Path, folder: Folder, name_of: Callable[[int], str]) -> Iterator[Sample | Refused]:
    """A sample a clip, in the order in which they are first asked about."""
    asked = Held()

    def hold(entry: dict[str, Any]) -> Iterable[Refused]:
        name = name_of(int(entry["video_id"]))
        asked.add(name, (words(entry["question"]), shares([entry["answer"]]), True, None))
        return ()

    yield from each(file, "item", hold)
    for name in asked:
        yield sample_of(folder, str(name), asked.pop(name))
