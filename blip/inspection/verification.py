"""Check a pairs dataset on disk: shards against the manifest, the table against the shards, the quarantine.

problems = verify(PairsDataset.open("data/datasets/human"), on_shard=lambda shard: bar.advance(shard.bytes))
with open_pool() as pool: verify(dataset, pool=pool)              # its workers read the shards

Each shard is read for its digest, and again sample by sample beside the table's rows; each tar of the quarantine once,
beside the rows of the index. Only 8 bytes a sample are held for all of them, to find keys that stand twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from blip.data.archive import read_members
from blip.data.jobs import HERE, Pool, run_in_order
from blip.data.manifest import MANIFEST, Shard
from blip.data.metadata import METADATA, PARTNER_SHA256
from blip.data.pairs import PairsDataset
from blip.data.parquet import read_batches, read_column, read_rows
from blip.data.part import QUARANTINE
from blip.data.quarantine import INDEX, read_quarantine
from blip.data.sample import Sample, stable_id
from blip.digest import file_sha256
from blip.errors import BlipError

COLUMNS = ["key", "shard", "width", "height", "bytes", "sha256"]
SHOWN = 3  # problems of one kind in one place, before the rest are counted

Row = dict[str, Any]


@dataclass(frozen=True)
class _Job:
    """A shard, and the rows of the table that describe it.

    Attributes:
        dataset: with the shard alone.
        rows: None where there are none.
        broken: why the table cannot be read behind these rows, if so.
        told: what is wrong with the table before them.
    """

    dataset: PairsDataset
    shard: Shard
    rows: list[Row] | None
    broken: str
    told: list[str]


def verify(
    dataset: PairsDataset, on_shard: Callable[[Shard], None] | None = None, pool: Pool = HERE
) -> list[str]:
    """All that is wrong with a dataset, a sentence each that names the shard and the key; [] if it is sound.

    Args:
        on_shard: called after each shard, for showing progress.
        pool: who reads the shards.
    """
    return [
        *_samples(dataset, on_shard or (lambda _: None), pool),
        *_rows_altogether(dataset),
        *_quarantine(dataset),
        *_unknown_files(dataset),
    ]


def _samples(dataset: PairsDataset, on_shard: Callable[[Shard], None], pool: Pool) -> Iterator[str]:
    """Each shard, with the rows of the table that describe it: both have the same order."""
    here = dataset if pool.executor is None else replace(dataset, path=dataset.path.absolute())
    behind: list[str] = []
    checked = run_in_order(pool, _shard_problems, _jobs(here, behind))
    for shard, problems in zip(dataset.manifest.shards, checked, strict=True):
        yield from problems
        on_shard(shard)
    yield from behind


def _jobs(dataset: PairsDataset, behind: list[str]) -> Iterator[_Job]:
    """One for each shard; `behind` gets what is wrong with the table behind the last one's rows."""
    groups = _rows_by_shard(dataset.path / METADATA)
    waiting = next(groups, None)
    listed = {shard.url for shard in dataset.manifest.shards}
    for shard in dataset.manifest.shards:
        alone = replace(dataset, manifest=replace(dataset.manifest, shards=[shard]))
        told = []
        while waiting and waiting[0] not in listed:
            told.append(f"{METADATA} has rows for shard {waiting[0]}, which the manifest lacks")
            waiting = next(groups, None)
        if waiting and waiting[0] == shard.url:
            rows, broken = _held(waiting[1])
            waiting = next(groups, None)
            yield _Job(alone, shard, rows, broken, told)
        else:
            told.append(f"{METADATA} has no rows for shard {shard.url} where they should stand")
            yield _Job(alone, shard, None, "", told)
    if waiting:
        behind.append(f"{METADATA} has rows for shard {waiting[0]} behind its last shard's")


def _held(rows: Iterator[Row]) -> tuple[list[Row], str]:
    """The rows of a shard as far as they can be read, and why no further."""
    held: list[Row] = []
    try:
        held.extend(rows)
    except BlipError as error:
        return held, str(error)
    return held, ""


def _shard_problems(job: _Job) -> list[str]:
    problems = [*_file_problems(job.dataset, job.shard), *job.told]
    if job.rows is not None:
        found = _differences(job.dataset, job.shard, _given(job.rows, job.broken))
        problems += _first(found, f"shard {job.shard.url}")
    return problems


def _given(rows: list[Row], broken: str) -> Iterator[Row]:
    yield from rows
    if broken:
        raise BlipError(broken)


def _file_problems(dataset: PairsDataset, shard: Shard) -> Iterator[str]:
    path = dataset.path / shard.url
    if not path.is_file():
        yield f"shard {shard.url} is missing"
        return
    if path.stat().st_size != shard.bytes:
        size = path.stat().st_size
        yield f"shard {shard.url} has {size:,} bytes, the manifest says {shard.bytes:,}"
        return
    if file_sha256(path) != shard.sha256:
        yield f"shard {shard.url} is not the file that the manifest describes (SHA-256 differs)"


def _differences(dataset: PairsDataset, shard: Shard, rows: Iterator[Row]) -> Iterator[str]:
    """Where samples and rows differ; a sample's digest is that of its picture, its partner has one of its own."""
    path = dataset.path / shard.url
    if not path.is_file() or path.stat().st_size != shard.bytes:
        return
    try:
        for place, (sample, row) in enumerate(zip_longest(dataset.shard_samples(shard), rows)):
            if sample is None:
                yield f"{METADATA} has key {row['key']}, which the shard lacks"
            elif row is None:
                yield f"key {sample.key} has no row in {METADATA}"
            elif row["key"] != sample.key:
                yield f"sample {place} is {sample.key}, {METADATA} has {row['key']} there"
            else:
                yield from _row_problems(sample, row)
    except BlipError as error:
        yield str(error)


def _row_problems(sample: Sample, row: Row) -> Iterator[str]:
    facts: Row = {
        "width": sample.width,
        "height": sample.height,
        "bytes": len(sample.media),
        "sha256": sha256(sample.media).hexdigest(),
        PARTNER_SHA256: None if sample.partner is None else sha256(sample.partner).hexdigest(),
    }
    for name, value in facts.items():
        if row.get(name) != value:
            yield f"key {sample.key} has {name} {value}, {METADATA} says {row.get(name)}"


def _rows_altogether(dataset: PairsDataset) -> Iterator[str]:
    """The number of rows, and keys that stand twice."""
    try:
        numbers = [
            np.fromiter((stable_id(str(key)) for key in batch["key"].to_pylist()), np.int64)
            for batch in read_batches(dataset.path / METADATA, ["key"])
        ]
    except BlipError as error:
        yield str(error)
        return
    total = np.sort(np.concatenate(numbers)) if numbers else np.empty(0, np.int64)
    if len(total) != len(dataset):
        yield f"{METADATA} has {len(total):,} rows, the manifest says {len(dataset):,} samples"
    twice = frozenset(total[1:][total[1:] == total[:-1]].tolist())
    if twice:
        yield from _first(_repeated(dataset.path / METADATA, twice), METADATA)


def _repeated(path: Path, twice: frozenset[int]) -> Iterator[str]:
    told: set[int] = set()
    for key in read_column(path, "key"):
        number = stable_id(str(key))
        if number in twice and number not in told:
            told.add(number)
            yield f"key {key} stands more than once"


def _quarantine(dataset: PairsDataset) -> Iterator[str]:
    """The index must be readable, count what the manifest counts, and name the bytes that are there and no others."""
    try:
        counts = Counter(refused.reason for refused in read_quarantine(dataset.path))
    except BlipError as error:
        yield str(error)
        return
    lost = (problem for path, named in _payloads(dataset) for problem in _payload_problems(path, named))
    yield from _first(lost, QUARANTINE)
    told = dataset.manifest.quarantined
    for reason in sorted(told.keys() | counts.keys()):
        if told.get(reason, 0) != counts[reason]:
            yield (
                f"{QUARANTINE}/{INDEX} has {counts[reason]:,} of reason {reason}, "
                f"the manifest says {told.get(reason, 0):,}"
            )
    files = sum(1 for file in (dataset.path / QUARANTINE).iterdir() if file.name != INDEX)
    named = sum(path.is_file() for path, _ in _payloads(dataset))
    if files > named:
        yield f"{QUARANTINE} has {files - named:,} files that its index does not name"


def _payloads(dataset: PairsDataset) -> Iterator[tuple[Path, dict[str, str]]]:
    """Each file that the index names, with the keys of the members it names of it: a part's rows are neighbours."""
    kept = ((one.key, one.payload) for one in read_quarantine(dataset.path) if one.payload)
    for path, group in groupby(kept, key=lambda one: one[1].path):
        yield path, {payload.member: key for key, payload in group}


def _payload_problems(path: Path, named: dict[str, str]) -> Iterator[str]:
    """Where the index and a tar of payloads differ; one member at a time is held."""
    if not path.is_file():
        first, *others = named.values()
        more = f" and {len(others):,} more" if others else ""
        yield f"{path.name} is missing, with the bytes of {first}{more}"
        return
    if "" in named:  # a file of its own
        return
    for member in read_members(path, path.name):
        key = named.pop(member.name, None)
        if member.problem:
            yield member.detail if member.name == path.name else f"{path.name}/{member.name}: {member.detail}"
        elif key is None:
            yield f"{path.name} has {member.name}, which the index does not name"
    for name, key in named.items():
        yield f"the bytes of {key} ({path.name}/{name}) are missing"


def _unknown_files(dataset: PairsDataset) -> Iterator[str]:
    """Files that the manifest knows nothing of; those in the quarantine are counted by `_quarantine`.

    Tables may stand beside the metadata, as CapFilt's audit does.
    """
    known = {MANIFEST, *(shard.url for shard in dataset.manifest.shards)}
    known |= {table.name for table in dataset.path.glob("*.parquet")}
    files = (file for file in dataset.path.rglob("*") if not file.is_dir())
    names = (file.relative_to(dataset.path).as_posix() for file in files)
    kept = f"{QUARANTINE}/"
    strangers = (
        f"{name} is no part of it" for name in names if name not in known and not name.startswith(kept)
    )
    yield from _first(strangers, "the folder")


def _rows_by_shard(path: Path) -> Iterator[tuple[str, Iterator[Row]]]:
    """Neighbouring rows of one shard. A table that cannot be read has none; `_rows_altogether` says why."""
    try:
        yield from groupby(read_rows(path, COLUMNS, [PARTNER_SHA256]), key=lambda row: row["shard"])
    except BlipError:
        return


def _first(problems: Iterator[str], where: str) -> Iterator[str]:
    """The first few problems of a place, and how many more there are."""
    more = 0
    for number, problem in enumerate(problems):
        if number < SHOWN:
            yield f"{where}: {problem}"
        else:
            more += 1
    if more:
        yield f"{where}: {more:,} more like these"
