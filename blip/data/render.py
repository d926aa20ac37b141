"""The pictures of a batch, from files to the bytes that training takes, here or in processes of their own.

failure = render(pictures, augmentation, "7/0/3/0/images", out)      # out: uint8 [B, 3, S, S]

with Workers(2, augmentation, batch_size=64) as workers:
    for plan, images in workers.render(plans): ...                   # in the order of the plans

What a batch looks like depends on its pictures and its seed only, never on who makes it. The processes are given
files through a pipe and write pixels to memory that they share with this one; they end when it ends, however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from ctypes import c_uint8
from random import Random
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from blip.data.augment import Augmentation
from blip.data.decode import BadImage, Pixels
from blip.errors import BlipError

AHEAD = 2  # batches that wait ready, beside those being made
Images = NDArray[np.uint8]  # [B, 3, S, S]


class Failure(NamedTuple):
    """The row of a picture that cannot be decoded, and why."""

    row: int
    reason: str


class Plan(Protocol):
    """What a batch is made of."""

    @property
    def pictures(self) -> Sequence[bytes | Pixels]: ...
    @property
    def seed(self) -> str: ...


P = TypeVar("P", bound=Plan)


def render(
    pictures: Sequence[bytes | Pixels], augmentation: Augmentation, seed: str, out: Images
) -> Failure | None:
    """Augment pictures one after the other into `out`; stops at the first that cannot be decoded."""
    rng = Random(seed)
    for row, picture in enumerate(pictures):
        try:
            pixels = augmentation(picture, rng)
        except BadImage as error:
            return Failure(row, str(error))
        cv2.split(pixels, list(out[row]))
    return None


class Workers:
    """Processes that render batches, each a batch at a time.

    They are started afresh (spawn), not forked: this process has threads of torch's, which a fork does not survive.
    """

    def __init__(self, count: int, augmentation: Augmentation, batch_size: int) -> None:
        """Start nothing yet; processes come with the first batches."""
        context = multiprocessing.get_context("spawn")
        shape = (count + AHEAD, batch_size, 3, augmentation.size, augmentation.size)
        memory = context.RawArray(c_uint8, int(np.prod(shape)))
        self._slots = _view(memory, shape)
        self._pool = ProcessPoolExecutor(
            count, mp_context=context, initializer=_begin, initargs=(memory, shape, augmentation)
        )

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def render(self, plans: Iterator[P]) -> Iterator[tuple[P, Images | Failure]]:
        """Every plan with its images, in order; plans are taken a few ahead.

        Raises:
            BlipError: a process ended.
        """
        free = deque(range(len(self._slots)))
        coming: deque[tuple[P, int, Future[Failure | None]]] = deque()
        try:
            while True:
                while free and (plan := next(plans, None)) is not None:
                    slot = free.popleft()
                    coming.append((plan, slot, self._pool.submit(_work, slot, plan.pictures, plan.seed)))
                if not coming:
                    return
                plan, slot, future = coming.popleft()
                failure = future.result()
                free.append(slot)
                yield plan, failure or self._slots[slot].copy()
        except BrokenProcessPool:
            raise BlipError(
                "a process that prepares training pictures was ended from outside, perhaps for want of memory; "
                "run again to go on from the last checkpoint, with a lower training.workers if memory is short"
            ) from None


_mine: dict[str, Any] = {}  # of a worker: the memory it shares and the augmentation


def _begin(memory: Any, shape: tuple[int, ...], augmentation: Augmentation) -> None:
    """Set up a worker. Signals to the whole group are for the parent, which may want a batch more before it stops."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    _mine.update(slots=_view(memory, shape), augmentation=augmentation)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(slot: int, pictures: Sequence[bytes | Pixels], seed: str) -> Failure | None:
    return render(pictures, _mine["augmentation"], seed, _mine["slots"][slot])


def _view(memory: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.frombuffer(memory, np.uint8).reshape(shape)
