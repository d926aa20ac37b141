"""The pictures of a batch as its models want to see them, made once for all of them, and ahead of a GPU by threads.

for seen in ahead(batches, wanted={View(384), View(224, 0.85)}, threads=8):
    seen.views[View(384)]                              # uint8 [B, 3, 384, 384], of those of the batch that are `good`
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blip.data.decode import BadMedia
from blip.data.images import ImageInput, squash, to_pil
from blip.data.pairs import Sample

AHEAD = 2  # batches that threads have in hand beside the one that is looked at


class View(NamedTuple):
    """How a picture is seen: squashed to `size`, of which only a `share` of both sides about the middle."""

    size: int
    share: float = 1.0


Views = Mapping[View, Tensor]
Arrays = dict[View, NDArray[np.uint8]]


class Seen(NamedTuple):
    """A batch, the views of those of its pictures that can be decoded, and why the others cannot, by their keys."""

    batch: list[Sample]
    views: Views
    refused: dict[str, BadMedia]

    @property
    def good(self) -> list[Sample]:
        """The samples that the views are of."""
        return [sample for sample in self.batch if sample.key not in self.refused]


def look(pictures: Sequence[ImageInput], wanted: Iterable[View]) -> Views:
    """Each picture, decoded once, in every view: uint8 ``[B, 3, S, S]``.

    Raises:
        BadImage: a picture cannot be decoded.
    """
    views = _empty(len(pictures), wanted)
    for place, picture in enumerate(pictures):
        _fill(views, place, picture)
    return _as_tensors(views)


def ahead(batches: Iterable[list[Sample]], wanted: Collection[View], threads: int) -> Iterator[Seen]:
    """The batches with their pictures in every view; with threads the next ones are made meanwhile."""
    if not threads:
        for batch in batches:
            views = _empty(len(batch), wanted)
            yield _seen(batch, views, [_try(views, place, sample) for place, sample in enumerate(batch)])
        return
    waiting: deque[tuple[list[Sample], Arrays, list[Future[BadMedia | None]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for batch in batches:
            views = _empty(len(batch), wanted)
            made = [pool.submit(_try, views, place, sample) for place, sample in enumerate(batch)]
            waiting.append((batch, views, made))
            if len(waiting) > AHEAD:
                yield _ready(*waiting.popleft())
        while waiting:
            yield _ready(*waiting.popleft())


def _ready(batch: list[Sample], views: Arrays, made: Iterable[Future[BadMedia | None]]) -> Seen:
    return _seen(batch, views, [future.result() for future in made])


def _seen(batch: list[Sample], views: Arrays, problems: Sequence[BadMedia | None]) -> Seen:
    refused = {sample.key: why for sample, why in zip(batch, problems, strict=True) if why}
    if refused:
        good = [place for place, why in enumerate(problems) if not why]
        views = {view: pixels_BSSC[good] for view, pixels_BSSC in views.items()}
    return Seen(batch, _as_tensors(views), refused)


def _try(views: Arrays, place: int, sample: Sample) -> BadMedia | None:
    """Make the views of a sample's picture; the reason where it cannot be decoded."""
    try:
        _fill(views, place, sample.media)
    except BadMedia as error:
        return error
    return None


def _empty(count: int, wanted: Iterable[View]) -> Arrays:
    return {view: np.empty((count, view.size, view.size, 3), np.uint8) for view in wanted}


def _fill(views: Arrays, place: int, picture: ImageInput) -> None:
    decoded = to_pil(picture)
    for view, pixels_BSSC in views.items():
        pixels_BSSC[place] = squash(decoded, *view)


def _as_tensors(views: Arrays) -> Views:
    return {view: torch.from_numpy(pixels_BSSC).permute(0, 3, 1, 2) for view, pixels_BSSC in views.items()}
