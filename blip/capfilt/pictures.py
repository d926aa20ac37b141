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


def look(pictures: Sequence[ImageInput], wanted: Collection[View]) -> Views:
    """Each picture, decoded once, in every view: uint8 ``[B, 3, S, S]``.

    Raises:
        BadImage: a picture cannot be decoded.
    """
    return _stacked([_seen(picture, wanted) for picture in pictures], wanted)


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
    waiting: deque[tuple[list[Sample], list[Future[list[NDArray[np.uint8]]]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for batch in batches:
            waiting.append((batch, [pool.submit(_seen, sample.media, wanted) for sample in batch]))
            if len(waiting) > AHEAD:
                yield _made(*waiting.popleft(), wanted)
        while waiting:
            yield _made(*waiting.popleft(), wanted)


def _made(
    batch: list[Sample], futures: Iterable[Future[list[NDArray[np.uint8]]]], wanted: Collection[View]
) -> tuple[list[Sample], Views]:
    return batch, _stacked([future.result() for future in futures], wanted)


def _seen(picture: ImageInput, wanted: Iterable[View]) -> list[NDArray[np.uint8]]:
    decoded = to_pil(picture)
    return [squash(decoded, *view) for view in wanted]


def _stacked(seen: Sequence[list[NDArray[np.uint8]]], wanted: Iterable[View]) -> Views:
    columns = zip(wanted, zip(*seen, strict=True), strict=True)
    return {view: torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2) for view, made in columns}
