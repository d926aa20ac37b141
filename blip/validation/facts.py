"""What validation looks at: one row of numbers a sample, drawn from metadata.parquet batch by batch.

    found = facts(dataset, others=evaluation_digests)
    found.frame                               # pandas, about 80 bytes a sample, no text in it
    found = with_copies(found, lost, near_bits=4)    # lost: which rows other rules set aside
    keys_of(dataset, np.array([12]))          # {12: "key-00012"}
    captions_of(dataset, np.array([12]))      # {12: "its first caption"}

Where a sample has several captions, the best of them counts: a sample is lost only when none of its captions
is any good. Keys, pictures and captions are compared by 64-bit hashes; the texts themselves are read again
for those few rows that a rule finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from blip.data.metadata import METADATA, PARTNER_SHA256
from blip.data.pairs import PairsDataset
from blip.data.parquet import read_batches
from blip.data.phash import earlier
from blip.data.sample import stable_id
from blip.data.text import CAPTION_WORDS, EVERY_WORD, clean_caption

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["key", "width", "height", "bytes", "sha256", "phash", "captions", "origin", "questions"]
REQUIRED = ["width", "height", "bytes", "sha256", "phash", "origin"]
SHOWN = 160  # characters of a caption kept for the pages

_FACTS = {
    "width": np.int32,
    "height": np.int32,
    "captions": np.int32,
    "questions": np.int32,
    "shortest_caption": np.float32,
    "longest_caption": np.float32,
    "letter_share": np.float64,
    "non_ascii_share": np.float64,
    "control_characters": np.float32,
    "missing_facts": np.int8,
    "key_missing": np.int8,
}
_HASHES = {
    "key": np.int64,
    "picture": np.uint64,
    "partner": np.uint64,
    "phash": np.uint64,
}

_NO_LETTER = re.compile(r"[\W\d_]+")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffd]")


@dataclass(frozen=True)
class Facts:
    """The facts of every sample of a dataset.

    Attributes:
        frame: width, height, short_side, aspect_ratio; origin (of the captions: the first that differs from
            the sample's); captions, questions and texts, which are
            both (counts); shortest_caption and longest_caption (words);
            letter_share (of the characters but spaces), non_ascii_share and control_characters (of the
            caption that has most letters, least others); caption_repeats (samples that have a caption of the same
            CAPTION_WORDS first words, of the caption that fewest have); missing_facts (how many of size, digest,
            hash and origin); and, as 1 or 0, key_missing, key_repeated and in_evaluation (`others` has the same
            file); once `with_copies` has looked for them, duplicate (the same file came before) and near_duplicate
            (one that looks alike did). A pair came before where its left picture did beside the same right one;
            that is not known of datasets made before the right one's digest was noted.
        files: hashes by which pictures (of pairs, both) are the same file; none once copies have been looked for.
        looks: hashes by which they look alike, the same.
        cut: samples with a caption that is longer than the CAPTION_WORDS that are read of it.
        alike: captions that differ from another only behind these.
        like: for the columns duplicate and near_duplicate (if looked for) the row of the picture before, or -1.
    """

    frame: pd.DataFrame
    files: NDArray[np.uint64]
    looks: NDArray[np.uint64]
    cut: int
    alike: int
    like: dict[str, NDArray[np.int64]] = field(default_factory=dict)


def facts(dataset: PairsDataset, others: NDArray[np.uint64] | None = None) -> Facts:
    """Read the facts of every sample of a dataset.

    Args:
        others: `picture_hashes` of the datasets that this one must not share a picture with.
    """
    import pandas as pd

    columns, hashes, texts, origins = _read(dataset)
    short = np.minimum(columns["width"], columns["height"])
    long = np.maximum(columns["width"], columns["height"])
    columns["short_side"], columns["aspect_ratio"] = short, np.round(long / np.maximum(short, 1), 2)
    columns["texts"] = columns["captions"] + columns["questions"]
    columns["caption_repeats"] = _fewest_times(texts)
    columns["key_repeated"] = ((_times(hashes.pop("key")) > 1) & (columns["key_missing"] == 0)).astype(
        np.int8
    )
    pictures, partners = hashes.pop("picture"), hashes.pop("partner")
    columns["in_evaluation"] = np.isin(pictures, [] if others is None else others).astype(np.int8)
    files = np.bitwise_xor(pictures, partners)
    looks = np.bitwise_xor(hashes.pop("phash"), partners)  # of one partner, as far apart as without it
    frame = pd.DataFrame(columns, copy=False)
    frame["origin"] = pd.Categorical.from_codes(origins.codes, list(origins.names))
    cut = int((columns["longest_caption"] > CAPTION_WORDS).sum())
    alike = len(np.unique(texts.whole)) - len(np.unique(texts.read))
    return Facts(frame, files, looks, cut, alike)


def with_copies(found: Facts, lost: NDArray[np.bool_], near_bits: int | None = None) -> Facts:
    """The facts with the copies among the pictures, of which the first that is not lost counts as the one before.

    So of copies one is left, whichever of them another rule sets aside.

    Args:
        lost: whether a sample is set aside by another rule.
        near_bits: of the 64 bits of two perceptual hashes, how many differ at most where pictures look alike;
            None to look for no such pictures.
    """
    like = {"duplicate": _earlier(found.files, 0, lost)}
    if near_bits is not None:
        near = _earlier(found.looks, near_bits, lost)
        like["near_duplicate"] = np.where(like["duplicate"] < 0, near, -1)
    copies = {name: (rows >= 0).astype(np.int8) for name, rows in like.items()}
    none = np.empty(0, np.uint64)
    return replace(found, frame=found.frame.assign(**copies), files=none, looks=none, like=like)


def _earlier(hashes: NDArray[np.uint64], bits: int, lost: NDArray[np.bool_]) -> NDArray[np.int64]:
    """As `earlier`, were those that are lost behind all others."""
    order = np.concatenate([np.flatnonzero(~lost), np.flatnonzero(lost)])
    before = earlier(hashes[order], bits)
    found = np.empty_like(before)
    found[order] = np.where(before < 0, -1, order[before])
    return found


def picture_hashes(dataset: PairsDataset) -> NDArray[np.uint64]:
    """64 bits of the SHA-256 of every picture."""
    found = [_digests(batch.column("sha256").to_pylist()) for batch in _batches(dataset, ["sha256"])]
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def keys_of(dataset: PairsDataset, rows: NDArray[np.int64]) -> dict[int, str]:
    """The keys of some rows (sorted) of the table."""
    return {row: str(key) for row, key in _look_up(dataset, "key", rows)}


def captions_of(dataset: PairsDataset, rows: NDArray[np.int64]) -> dict[int, str]:
    """The first captions of some rows (sorted) of the table, cut to what a page shows."""
    found = _look_up(dataset, "captions", rows)
    return {row: (captions[0]["text"] or "")[:SHOWN] if captions else "" for row, captions in found}


def _look_up(dataset: PairsDataset, column: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
    """Rows with their values; read are the row groups that have such rows, and no others."""
    start = 0
    with pq.ParquetFile(dataset.path / METADATA) as file:
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            first, last = np.searchsorted(rows, [start, stop])
            if last > first:
                values = file.read_row_group(group, columns=[column]).column(0)
                taken = values.take(pa.array(rows[first:last] - start, pa.int64())).to_pylist()
                yield from zip(rows[first:last].tolist(), taken, strict=True)
            start = stop


class _Origins:
    """Origins as small numbers, in the order in which they were met; none is -1."""

    def __init__(self, rows: int) -> None:
        self.codes = np.full(rows, -1, np.int8)
        self.names: dict[str, int] = {}

    def put(self, start: int, origins: list[str | None]) -> None:
        self.codes[start : start + len(origins)] = [
            -1 if origin is None else self.names.setdefault(origin, len(self.names)) for origin in origins
        ]


@dataclass(frozen=True)
class _Texts:
    """Hashes of all captions, those of a sample once each and side by side.

    Attributes:
        counts: how many different ones each sample has.
        read: of their CAPTION_WORDS first words.
        whole: of all their words, of which a sample may have more.
    """

    counts: NDArray[np.int32]
    read: NDArray[np.int64]
    whole: NDArray[np.int64]


def _read(dataset: PairsDataset) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], _Texts, _Origins]:
    with pq.ParquetFile(dataset.path / METADATA) as file:
        rows = file.metadata.num_rows
    arrays = {name: np.empty(rows, kind) for name, kind in (_FACTS | _HASHES).items()}
    origins = _Origins(rows)
    counts, read, whole = np.empty(rows, np.int32), [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    start = 0
    for batch in read_batches(dataset.path / METADATA, COLUMNS, optional=[PARTNER_SHA256]):
        columns = batch.to_pydict()
        stop = start + len(batch)
        texts = [[caption["text"] or "" for caption in captions or ()] for captions in columns["captions"]]
        words = [[clean_caption(text, EVERY_WORD).split() for text in row] for row in texts]
        for name, values in _rows(columns, texts, words).items():
            arrays[name][start:stop] = values
        read_of = [{stable_id(" ".join(text[:CAPTION_WORDS])) for text in row} for row in words]
        counts[start:stop] = [len(row) for row in read_of]
        read.append(np.array([each for row in read_of for each in row], np.int64))
        whole.append(np.array([stable_id(" ".join(text)) for row in words for text in row], np.int64))
        origins.put(start, [_origin(*of) for of in zip(columns["origin"], columns["captions"], strict=True)])
        start = stop
    told = _Texts(counts, np.concatenate(read), np.concatenate(whole))
    return {name: arrays[name] for name in _FACTS}, {name: arrays[name] for name in _HASHES}, told, origins


def _batches(dataset: PairsDataset, columns: list[str]) -> Iterator[pa.RecordBatch]:
    return read_batches(dataset.path / METADATA, columns)


def _rows(
    columns: dict[str, list[Any]], texts: list[list[str]], words: list[list[list[str]]]
) -> dict[str, Any]:
    """The facts of a batch that need no other row; `texts` and `words` are those of the captions."""
    told = [_caption_facts(*row) for row in zip(texts, words, strict=True)]
    return {
        "width": _numbers(columns["width"]),
        "height": _numbers(columns["height"]),
        "captions": [len(row) for row in texts],
        "questions": _numbers(columns["questions"]),
        **dict(zip(_OF_CAPTIONS, zip(*told, strict=True), strict=True)),
        "missing_facts": [
            sum(value is None for value in row) for row in zip(*map(columns.get, REQUIRED), strict=True)
        ],
        "key_missing": [key is None for key in columns["key"]],
        "key": [0 if key is None else stable_id(key) for key in columns["key"]],
        "picture": _digests(columns["sha256"]),
        "partner": _digests(columns.get(PARTNER_SHA256) or [None] * len(texts), slice(-16, None)),
        "phash": np.array([value or 0 for value in columns["phash"]], np.uint64),
    }


_OF_CAPTIONS = (
    "shortest_caption",
    "longest_caption",
    "letter_share",
    "non_ascii_share",
    "control_characters",
)
_NO_CAPTION = (np.nan,) * len(_OF_CAPTIONS)


def _caption_facts(texts: list[str], words: list[list[str]]) -> tuple[float, ...]:
    if not texts:
        return _NO_CAPTION
    return (
        min(map(len, words)),
        max(map(len, words)),
        max(map(_letters, texts)),
        min(map(_non_ascii, texts)),
        min(len(_CONTROL.findall(text)) for text in texts),
    )


def _letters(text: str) -> float:
    characters = len("".join(text.split()))
    return round(len(_NO_LETTER.sub("", text)) / max(characters, 1), 4)


def _non_ascii(text: str) -> float:
    if text.isascii():
        return 0.0
    return round(1 - len(text.encode("ascii", "ignore")) / len(text), 4)


def _origin(origin: str | None, captions: list[dict[str, Any]] | None) -> str | None:
    return next((caption["origin"] for caption in captions or () if caption["origin"] != origin), origin)


def _numbers(values: list[int | None]) -> list[int]:
    return [value or 0 for value in values]


def _digests(digests: list[str | None], part: slice = slice(16)) -> NDArray[np.uint64]:
    """64 bits of each, 0 where there is none; others of a partner, so that a pair is not the same turned round."""
    return np.array([int((digest or "0")[part], 16) for digest in digests], np.uint64)


def _times(hashes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each stands among them."""
    _, which, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return counts[which]


def _fewest_times(texts: _Texts) -> NDArray[np.float32]:
    """For each sample, how many have that caption of its own that fewest have; not a number where it has none."""
    fewest = np.full(len(texts.counts), np.nan, np.float32)
    some = texts.counts > 0
    starts = np.cumsum(texts.counts[some]) - texts.counts[some]
    if len(starts):
        fewest[some] = np.minimum.reduceat(_times(texts.read), starts)
    return fewest
