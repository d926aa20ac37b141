"""Pictures to be searched: those of a folder or of a pairs dataset, embedded once.

    found = Collection.of(Path("photos"), model, print)
    found.nearest(model.embed_texts(["a red bicycle"])[0], 5)       # [(0.41, Place(...)), ...]

What stays in memory is a vector a picture and where its bytes are; these are read again when it is shown.
"""

import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from PIL.Image import Image, fromarray
from torch import Tensor

from blip.data.decode import BadMedia
from blip.data.images import squash, to_pil
from blip.data.manifest import MANIFEST
from blip.data.pairs import PairsDataset
from blip.data.sample import IMAGE_EXTENSIONS
from blip.errors import BlipError
from blip.model.api import Blip

BATCH = 64


class Place(NamedTuple):
    """Where the bytes of a picture are, a file or a part of a shard; what it is called, and what is said of it."""

    name: str
    file: Path
    start: int = 0
    size: int = -1
    text: str = ""

    def picture(self) -> Image:
        """The picture in RGB. Raises BlipError with its name if it cannot be used."""
        try:
            with self.file.open("rb") as file:
                file.seek(self.start)
                return to_pil(file.read(self.size))
        except BadMedia as error:
            raise BlipError(f"{self.name} cannot be used as a picture: {error.detail}") from None
        except OSError as error:
            raise BlipError(f"picture {self.name} cannot be read: {error.strerror}") from None

    def squashed(self, size: int) -> Image:
        """As a model of that image size sees it. Raises BlipError as `picture` does."""
        return fromarray(squash(self.picture(), size))

    def thumbnail(self, longest: int) -> Image:
        """As a page shows it, no side longer than so many pixels. Raises BlipError as `picture` does."""
        picture = self.picture()
        picture.thumbnail((longest, longest))
        return picture


@dataclass(frozen=True)
class Collection:
    """Pictures with their embeddings ``[N, P]``, float32 on the CPU; `left_out` is told of what cannot be used."""

    source: Path
    places: list[Place]
    vectors_NP: Tensor
    left_out: Callable[[str], None]
    cut: int | None = None  # how many were looked at, where there are more

    @property
    def extent(self) -> str:
        """How many pictures are searched, in words."""
        if self.cut is None:
            return f"{len(self.places):,} pictures"
        return f"the first {self.cut:,} pictures: there are more, which are not searched"

    @classmethod
    def of(
        cls, source: Path, model: Blip, left_out: Callable[[str], None], most: int | None = None
    ) -> "Collection":
        """Embed the first `most` pictures of a folder or dataset, or all.

        Args:
            left_out: is told of every picture that cannot be used.

        Raises:
            BlipError: there are no pictures, or none that can be used.
        """
        usable: list[Place] = []
        vectors: list[Tensor] = []
        every = places_in(source)
        waiting = islice(every, most)
        while batch := list(islice(waiting, BATCH)):
            pictures = list(_readable(batch, lambda place: place.squashed(model.image_size), left_out))
            usable += (place for place, _ in pictures)
            vectors.append(model.embed_images([picture for _, picture in pictures]).float().cpu())
        if not usable:
            raise BlipError(f"none of the pictures of {source} can be used")
        return cls(source, usable, torch.cat(vectors), left_out, most if next(every, None) else None)

    def nearest(self, vector_P: Tensor, most: int) -> list[tuple[float, Place]]:
        """The pictures with the largest cosines, and these, best first."""
        cosines, chosen = (self.vectors_NP @ vector_P.float().cpu()).topk(min(most, len(self.places)))
        return list(zip(cosines.tolist(), (self.places[at] for at in chosen.tolist()), strict=True))

    def readable(
        self, places: Iterable[Place], read: Callable[[Place], Image]
    ) -> Iterator[tuple[Place, Image]]:
        """Places with what is read there, one after the other; those that have gone or broken since are left out.

        Raises:
            BlipError: none can be used.
        """
        found = _readable(places, read, self.left_out)
        first = next(found, None)
        if first is None:
            raise BlipError(
                f"none of the pictures of {self.source} that were found can be read any more; the terminal says why"
            )
        yield first
        yield from found


def places_in(source: Path) -> Iterator[Place]:
    """The pictures of a pairs dataset, or of a folder and those below it. Raises BlipError if there is none."""
    if not source.is_dir():
        raise BlipError(f"{source}: no such folder")
    found = _in_dataset(source) if (source / MANIFEST).is_file() else _in_folder(source)
    first = next(found, None)
    if first is None:
        raise BlipError(f"{source} has no pictures ({', '.join(sorted(IMAGE_EXTENSIONS))})")
    yield first
    yield from found


def _in_folder(folder: Path) -> Iterator[Place]:
    found = (path for path in folder.rglob("*") if path.suffix[1:].lower() in IMAGE_EXTENSIONS)
    for path in sorted(path for path in found if path.is_file()):
        yield Place(str(path), path, text=path.relative_to(folder).as_posix())


def _in_dataset(folder: Path) -> Iterator[Place]:
    dataset = PairsDataset.open(folder)
    for shard in dataset.manifest.shards:
        path = folder / shard.url
        samples = dataset.shard_samples(shard)
        with tarfile.open(path, "r:") as tar:
            members = {member.name: member for member in tar}
        for sample in samples:
            if sample.extension in IMAGE_EXTENSIONS:
                member = members[f"{sample.key}.{sample.extension}"]
                text = sample.captions[0].text if sample.captions else ""
                yield Place(sample.key, path, member.offset_data, member.size, text)


def _readable(
    places: Iterable[Place], read: Callable[[Place], Image], left_out: Callable[[str], None]
) -> Iterator[tuple[Place, Image]]:
    """Places with what is read there, one after the other; `left_out` is told of those that cannot be used."""
    for place in places:
        try:
            yield place, read(place)
        except BlipError as error:
            left_out(str(error))
