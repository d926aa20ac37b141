"""Kind `table`: a folder with `captions.csv` (image, caption; several rows an image) and its pictures.

The pictures are in `images.tar` or in the folder. `truth.csv` (image, ...), if there is one, is what only
audits and evaluation may know. The captions are held in memory, the pictures are not.
"""

from collections.abc import Iterator
from pathlib import Path

from blip.config import Source
from blip.data.sample import Caption, Sample
from blip.data.sources.files import find_media
from blip.data.sources.refused import Refused
from blip.data.sources.rows import find_table, read_rows, read_truth


def read(source: Source, path: Path, archive: str = "images.tar") -> Iterator[Sample | Refused]:
    """Samples with their captions, in the order of the archive or else of the table."""
    captions = _captions(path)
    truth = read_truth(path)
    for item in find_media(path, archive, captions):
        if isinstance(item, Refused):
            yield item
            continue
        texts = captions[item.name]
        if not texts:
            yield Refused(item.key, "no_caption", f"{item.name} has only empty captions", item.data)
            continue
        yield Sample(
            key=item.key,
            media=item.data,
            extension=item.extension,
            captions=tuple(Caption(text, source.origin) for text in texts),
            truth=truth.get(item.name),
        )


def _captions(path: Path) -> dict[str, list[str]]:
    """Texts by image, each once, in the order of the rows."""
    captions: dict[str, dict[str, None]] = {}
    for row in read_rows(find_table(path, "captions"), ["image", "caption"]):
        texts = captions.setdefault(row["image"], {})
        text = " ".join(row["caption"].split())
        if text:
            texts[text] = None
    return {image: list(texts) for image, texts in captions.items()}
