"""Kind `pairs`: a pairs dataset, as ingest, CapFilt and `PairsWriter` write them.

    bootstrapped/manifest.json, shards/00000.tar, metadata.parquet

Captions keep their origins, samples their keys and what only audits and evaluation may know.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from blip.config import Source
from blip.data.manifest import MANIFEST, SCHEMA
from blip.data.metadata import METADATA, TRUTH
from blip.data.pairs import PairsDataset
from blip.data.parquet import read_batches
from blip.data.sample import Sample
from blip.errors import BlipError
from blip.ingest.sources.json_stream import stream


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a pairs dataset, by its manifest."""
    try:
        return next(stream(folder / MANIFEST, "schema"), None) == SCHEMA
    except BlipError:
        return False


def read(source: Source, path: Path) -> Iterator[Sample]:
    """Samples in the order of the shards.

    Raises:
        BlipError: it is no such dataset, or damaged.
    """
    dataset = PairsDataset.open(path)
    for sample, truth in zip(dataset.samples(), _truths(dataset), strict=True):
        yield replace(sample, truth=truth)


def _truths(dataset: PairsDataset) -> Iterator[dict[str, Any] | None]:
    names = [name for name in pq.read_schema(dataset.path / METADATA).names if name.startswith(TRUTH)]
    for batch in read_batches(dataset.path / METADATA, ["key", *names]):
        for row in batch.to_pylist():
            known = {name.removeprefix(TRUTH): row[name] for name in names if row[name] is not None}
            yield known or None
