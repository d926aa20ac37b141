"""The arms of the ablation: what the web pool is, to a model that is pre-trained on it and the human pairs.

    write_arms(web, audit, Path("data/datasets/ablation"), ["F", "C", "C+F"])

Made from the noisy pool and the audit of CapFilt, so that all arms have the same pictures, captions and scores (BLIP
paper, table 1, whose rows are `noisy`, `C`, `F`, `C+F`, and `repeated` in section 4.4).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from blip.capfilt.inputs import Pairs
from blip.capfilt.rules import EMPTY
from blip.data.metadata import METADATA
from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample
from blip.data.parquet import read_rows
from blip.data.text import clean_caption
from blip.errors import BlipError

TRUTH = "truth_caption_true"
AUDITED = ["key", "web_texts", "web_reason", "synthetic_texts", "synthetic_reason"]
Row = dict[str, Any]


def _texts(row: Row, origins: Sequence[str], only_kept: bool) -> list[Caption]:
    """The texts of some origins, none twice: those that were kept, or all that are not empty."""
    found: dict[str, Caption] = {}
    for origin in origins:
        for text, reason in zip(row[f"{origin}_texts"], row[f"{origin}_reason"], strict=True):
            if not reason if only_kept else reason != EMPTY:
                caption = Caption(clean_caption(text), origin)
                found.setdefault(caption.text, caption)
    return list(found.values())


CHOICES: dict[str, Callable[[Row], list[Caption]]] = {
    "F": partial(_texts, origins=("web",), only_kept=True),
    "C": partial(_texts, origins=("web", "synthetic"), only_kept=False),
    "C+F": partial(_texts, origins=("web", "synthetic"), only_kept=True),
    "truth": lambda row: [Caption(row[TRUTH], "human")] if row.get(TRUTH) else [],
}
"""The captions that an arm gives a picture; without any it is left out. `truth` needs a pool whose truth is known."""

FEWER = re.compile(r"(C|C\+F)@([1-9]\d*)")
"""`C+F@2` is `C+F` of the first two synthetic captions of each picture, whatever their number."""


def is_arm(name: str) -> bool:
    """Whether it is made from the audit: one of `CHOICES`, or one with fewer captions."""
    return name in CHOICES or bool(FEWER.fullmatch(name))


def captions_of(arm: str, row: Row) -> list[Caption]:
    """What an arm gives the picture of a row of the audit."""
    fewer = FEWER.fullmatch(arm)
    if fewer is None:
        return CHOICES[arm](row)
    first = {name: row[name][: int(fewer[2])] for name in ("synthetic_texts", "synthetic_reason")}
    return CHOICES[fewer[1]](row | first)


def write_arms(web: Pairs, audit: Path, folder: Path, arms: Sequence[str], samples_per_shard: int) -> None:
    """Write the pairs datasets of some arms below `folder`.

    Raises:
        BlipError: the audit is of another pool, or the pool's truth is asked for and not known.
    """
    if "truth" in arms and TRUTH not in pq.read_schema(web.dataset / METADATA).names:
        raise BlipError(f"{web.dataset} does not know which of its texts are right; leave the arm truth out")
    for arm in arms:
        settings = {"samples_per_shard": samples_per_shard, "parents": [], "parameters": {"arm": arm}}
        with PairsWriter(folder / arm, **settings) as writer:
            for sample, row in _with_rows(web, audit):
                captions = captions_of(arm, row)
                if captions:
                    writer.add(replace(sample, captions=tuple(captions)), phash=row["phash"])


def _with_rows(web: Pairs, audit: Path) -> Iterator[tuple[Sample, Row]]:
    """The pool's samples, each with its row of the audit, its hash and its true caption."""
    rows = read_rows(audit, AUDITED)
    for shard in PairsDataset.open(web.dataset).manifest.shards:
        known = _facts(web.dataset, shard.url)
        for sample in web.samples(shard):
            row = next(rows, None)
            if row is None or row["key"] != sample.key:
                raise BlipError(f"{audit} is not of {web.dataset}: sample {sample.key} is missing there")
            yield sample, row | known[sample.key]


def _facts(dataset: Path, shard: str) -> dict[str, Row]:
    names = [name for name in ("key", "phash", TRUTH) if name in pq.read_schema(dataset / METADATA).names]
    table = pq.read_table(dataset / METADATA, columns=names, filters=[("shard", "=", shard)])
    return {row.pop("key"): row for row in table.to_pylist()}
