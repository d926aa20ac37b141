"""The pictures of a batch as its models want to see them, made once for all of them, and ahead of a GPU by threads.

for batch, views in ahead(batches, wanted={View(384), View(224, 0.85)}, threads=8):
    views[View(384)]                                   # uint8 [B, 3, 384, 384]
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blip.data.images import ImageInput, squash, to_pil
from blip.data.pairs import Sample

AHEAD = 2  # batches that threads have in hand beside the one that is looked at


class View(NamedTuple):
    """How a picture is seen: squashed to `size`, of which only a `share` of both sides about the middle."""

    size: int
    share: float = 1.0


Views = Mapping[View, Tensor]
Arrays = dict[View, NDArray[np.uint8]]


def look(pictures: Sequence[ImageInput], wanted: Iterable[View]) -> Views:
    """Each picture, decoded once, in every view: uint8 ``[B, 3, S, S]``.

    Raises:
        BadImage: a picture cannot be decoded.
    """
    views = _empty(len(pictures), wanted)
    for place, picture in enumerate(pictures):
        _fill(views, place, picture)
    return _as_tensors(views)


def ahead(
    batches: Iterable[list[Sample]], wanted: Collection[View], threads: int
) -> Iterator[tuple[list[Sample], Views]]:
    """The batches with their pictures in every view; with threads the next ones are made meanwhile.

    Raises:
        BadImage: a picture cannot be decoded, when it is its batch's turn.
    """
    if not threads:
        for batch in batches:
            yield batch, look([sample.media for sample in batch], wanted)
        return
    waiting: deque[tuple[list[Sample], Arrays, list[Future[None]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for batch in batches:
            views = _empty(len(batch), wanted)
            made = [pool.submit(_fill, views, place, sample.media) for place, sample in enumerate(batch)]
            waiting.append((batch, views, made))
            if len(waiting) > AHEAD:
                yield _ready(*waiting.popleft())
        while waiting:
            yield _ready(*waiting.popleft())


def _ready(batch: list[Sample], views: Arrays, made: Iterable[Future[None]]) -> tuple[list[Sample], Views]:
    for future in made:
        future.result()
    return batch, _as_tensors(views)


def _empty(count: int, wanted: Iterable[View]) -> Arrays:
    return {view: np.empty((count, view.size, view.size, 3), np.uint8) for view in wanted}


def _fill(views: Arrays, place: int, picture: ImageInput) -> None:
    decoded = to_pil(picture)
    for view, pixels_BSSC in views.items():
        pixels_BSSC[place] = squash(decoded, *view)


def _as_tensors(views: Arrays) -> Views:
    return {view: torch.from_numpy(pixels_BSSC).permute(0, 3, 1, 2) for view, pixels_BSSC in views.items()}
