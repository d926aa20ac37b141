"""Kind `msrvtt`: MSR-VTT's captions, the 1k-A split's lists, and MSRVTT-QA.

    train_val_videodatainfo.json   {info, videos: [{video_id, split, ...}], sentences: [{video_id, caption, sen_id}]}
    MSRVTT_JSFUSION_test.csv       key,vid_key,video_id,sentence      1k-A test: one caption a clip
    MSRVTT_train.9k.csv            video_id                           1k-A train: captions from the JSON beside it
    train_qa.json                  [{id, video_id: 0, question, answer, category_id}]
    TrainValVideo/video0.mp4

The captions are held, packed: 15 MB for all 200,000.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from blip.config import Source
from blip.data.sample import Caption, Sample
from blip.ingest.sources.annotations import ALL, Held, each, find_file, find_files, need_split, pictures_of
from blip.ingest.sources.cells import words
from blip.ingest.sources.files import Folder
from blip.ingest.sources.json_stream import is_list, stream
from blip.ingest.sources.refused import MISSING, Refused
from blip.ingest.sources.rows import column_names, read_rows
from blip.ingest.sources.video_qa import read_list

INFO = ("*videodatainfo.json", "MSRVTT_data.json")


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Clips with captions or questions, in the order of the file.

    Raises:
        BlipError: there is no such file, it is no JSON, or no split of it is named.
    """
    file = find_file(path, source.split, *INFO)
    folder = pictures_of(source, path, file)
    if file.suffix == ".csv":
        yield from _listed(source, file, folder)
    elif is_list(file):
        yield from read_list(file, folder, lambda number: f"video{number}")
    else:
        yield from _info(source, file, folder)


def _info(source: Source, file: Path, folder: Folder) -> Iterator[Sample | Refused]:
    need_split(file, source.split, (str(video["split"]) for video in stream(file, "videos.item")))
    captions = Held()

    def make(video: dict[str, Any]) -> Iterator[Sample | Refused]:
        texts = captions.pop(video["video_id"])
        if source.split in (None, ALL, video["split"]):
            yield _clip(folder, video["video_id"], texts, source.origin)

    yield from each(file, "sentences.item", _holding(captions))
    yield from each(file, "videos.item", make)
    for name in captions:
        text = captions.pop(name)[0]
        yield Refused(str(name), MISSING, f"{file.name}: clip {name} of {text[:60]!r} is not listed")


def _listed(source: Source, file: Path, folder: Folder) -> Iterator[Sample | Refused]:
    captions = Held()
    own = "sentence" in column_names(file)
    if not own:
        for info in find_files(file.parent, *INFO):
            yield from each(info, "sentences.item", _holding(captions))
    for row in read_rows(file, ["video_id", "sentence"] if own else ["video_id"]):
        if isinstance(row, Refused):
            yield row
            continue
        name = row.text("video_id")
        texts = [words(row.text("sentence"))] if own else captions.pop(name)
        yield _clip(folder, name, texts, source.origin)


def _holding(captions: Held) -> Callable[[Any], Iterable[Refused]]:
    def hold(entry: dict[str, Any]) -> Iterable[Refused]:
        captions.add(entry["video_id"], words(entry["caption"]))
        return ()

    return hold


def _clip(folder: Folder, name: str, texts: Iterable[str], origin: str) -> Sample | Refused:
    found = folder.find(name)
    if isinstance(found, Refused):
        return found
    captions = tuple(Caption(text, origin) for text in texts)
    return Sample(found.key, found.data, found.extension, captions, name=found.renamed)
