"""Write a pairs dataset sample by sample; the whole directory appears at once, at the end, or not at all.

    with PairsWriter(Path("data/datasets/human"), samples_per_shard=1000, parents=[], parameters={}) as w:
        w.add(sample)
        w.quarantine("broken", "truncated", "ends after 12 of 4312 bytes", payload)

The same samples in the same order give the same bytes.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from blip.atomic import atomic_path
from blip.data.part import PARTS, PartWriter, assemble
from blip.data.sample import Sample

MAX_REFUSED = 10_000  # in one part, whose quarantine is held until it is finished


class PairsWriter:
    """Writes one part after the other and joins them."""

    def __init__(
        self,
        directory: Path,
        *,
        samples_per_shard: int,
        parents: list[str],
        parameters: dict[str, Any],
        origin: str = "human",
    ) -> None:
        """Write to `directory`, replacing what is there; `origin` stands for samples without captions."""
        self._target = Path(directory)
        self._per_shard = samples_per_shard
        self._parents, self._parameters = parents, parameters
        self._origin = origin
        self._stack, self._parts = ExitStack(), 0
        self._open: PartWriter | None = None

    def __enter__(self) -> PairsWriter:
        self._directory = self._stack.enter_context(atomic_path(self._target))
        self._part()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close(error)
            if error is None:
                assemble(self._directory, self._parents, self._parameters)
                shutil.rmtree(self._directory / PARTS)
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def add(self, sample: Sample, *, phash: int | None = None) -> None:
        """Append a sample, as `PartWriter.add`; that no key stands twice is checked at the end."""
        part = self._part()
        part.add(sample, phash=phash)
        if part.samples >= self._per_shard:
            self._close()

    def quarantine(self, key: str, reason: str, detail: str, payload: bytes | None = None) -> None:
        """Note a refused sample, as `PartWriter.quarantine`."""
        part = self._part()
        part.quarantine(key, reason, detail, payload)
        if part.refused >= MAX_REFUSED:
            self._close()

    def _part(self) -> PartWriter:
        if self._open is None:
            self._open = PartWriter(self._directory, self._parts, self._origin).__enter__()
        return self._open

    def _close(self, error: BaseException | None = None) -> None:
        part, self._open = self._open, None
        if part is not None:
            part.__exit__(type(error) if error else None, error, None)
            self._parts += 1
