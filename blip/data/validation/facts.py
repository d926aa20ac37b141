"""What validation looks at: one row a sample, drawn from metadata.parquet batch by batch.

    frame = facts(dataset, others=evaluation_digests)

Where a sample has several captions, the best of them counts: a sample is lost only when none of its captions
is any good. Pictures and captions are compared by 64-bit hashes, so a row stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from blip.data.metadata import METADATA
from blip.data.pairs import PairsDataset
from blip.data.sample import stable_id
from blip.data.text import clean_caption

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["key", "width", "height", "sha256", "captions", "origin", "questions"]
BATCH = 65_536
SHOWN = 160  # characters of a caption kept for the pages
EVERY_WORD = 10_000  # clean_caption cuts after so many words; here all of them count


def facts(dataset: PairsDataset, others: NDArray[np.uint64] | None = None) -> pd.DataFrame:
    """The facts of every sample of a dataset.

    Args:
        others: `picture_hashes` of the datasets that this one must not share a picture with.

    Returns:
        key and caption (escaped for HTML, as pages show them); width, height, short_side, aspect_ratio;
        origin; captions and questions (counts); shortest_caption and longest_caption (words); non_ascii_share
        (of the caption that has least); caption_repeats (samples with the same first caption); duplicate (1:
        the same file came before); in_evaluation (1: `others` has the same file).
    """
    import pandas as pd

    frame = pd.concat(
        [pd.DataFrame(_rows(batch)) for batch in _batches(dataset)] or [pd.DataFrame(_rows(None))]
    )
    frame = frame.reset_index(drop=True)
    pictures, texts = frame.pop("picture"), frame.pop("text")
    frame["duplicate"] = pictures.duplicated().astype("int8")
    frame["in_evaluation"] = np.isin(pictures, [] if others is None else others).astype("int8")
    frame["caption_repeats"] = texts.groupby(texts).transform("size").where(frame["captions"] > 0)
    return frame


def picture_hashes(dataset: PairsDataset) -> NDArray[np.uint64]:
    """64 bits of the SHA-256 of every picture."""
    return _hashes(dataset.metadata(["sha256"])["sha256"].to_pylist())


def _batches(dataset: PairsDataset) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(dataset.path / METADATA) as file:
        yield from file.iter_batches(BATCH, columns=COLUMNS)


def _rows(batch: pa.RecordBatch | None) -> dict[str, Any]:
    columns = batch.to_pydict() if batch is not None else {name: [] for name in COLUMNS}
    texts = [[caption["text"] or "" for caption in captions or []] for captions in columns["captions"]]
    words = [[len(clean_caption(text, EVERY_WORD).split()) for text in row] for row in texts]
    width, height = (
        np.array([side or 0 for side in columns[name]], np.int32) for name in ("width", "height")
    )
    short, long = np.minimum(width, height), np.maximum(width, height)
    return {
        "key": [None if key is None else escape(key) for key in columns["key"]],
        "caption": [escape(row[0][:SHOWN]) if row else None for row in texts],
        "origin": columns["origin"],
        "width": width,
        "height": height,
        "short_side": short,
        "aspect_ratio": np.round(long / np.maximum(short, 1), 2),
        "captions": np.array([len(row) for row in texts], np.int32),
        "questions": np.array([count or 0 for count in columns["questions"]], np.int32),
        "shortest_caption": np.array([min(row, default=np.nan) for row in words], np.float64),
        "longest_caption": np.array([max(row, default=np.nan) for row in words], np.float64),
        "non_ascii_share": np.array([min(map(_non_ascii, row), default=np.nan) for row in texts], np.float64),
        "picture": _hashes(columns["sha256"]),
        "text": np.array([stable_id(clean_caption(row[0])) if row else 0 for row in texts], np.int64),
    }


def _non_ascii(text: str) -> float:
    return round(sum(not character.isascii() for character in text) / max(len(text), 1), 4)


def _hashes(digests: list[str]) -> NDArray[np.uint64]:
    return np.array([int(digest[:16], 16) for digest in digests], np.uint64)
