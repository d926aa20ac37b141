"""The job that makes shards of addresses: fetch the pictures of some shards, write one after the other meanwhile.

    for taken in run_jobs(pool, download_shards, download_jobs(shard_jobs, settings, per_shard, pool.workers)): ...

While the slowest server of one shard is waited for, the next shards' pictures are coming; only the end of a job is
spent waiting, so jobs are long. Each shard is finished for itself; one that was finished before is neither fetched
nor looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

from blip.config import Download
from blip.data.sample import Sample
from blip.errors import BlipError
from blip.ingest.download.lost import UNASKED, UNREACHED
from blip.ingest.download.stream import fetch_all
from blip.ingest.shards import Item, ShardJob, write_shard
from blip.ingest.sources.refused import Refused
from blip.ingest.sources.urls import Address

ROWS_A_JOB = 20_000  # at 150 a second two minutes' work, beside which its last URL's `total_seconds` are few
ROWS_AHEAD = 200_000  # of all workers' next jobs, which wait in memory
FEW = 20  # rows of a shard that may all be dead by chance


@dataclass(frozen=True)
class DownloadJob:
    """Neighbouring shards whose items are addresses, and what one worker may do."""

    shards: list[ShardJob]
    settings: Download


def download_jobs(
    shards: Iterable[ShardJob], settings: Download, per_shard: int, workers: int
) -> Iterator[DownloadJob]:
    """Jobs for a pool of so many workers, which keep to the limits together; the last are shared out evenly."""
    share = settings.model_copy(
        update={
            "connections": max(settings.connections // workers, 1),
            "connections_per_host": max(settings.connections_per_host // workers, 1),
            "seconds_between": settings.seconds_between * workers,
        }
    )
    length = max(min(ROWS_A_JOB, ROWS_AHEAD // workers) // per_shard, 1)
    rest = iter(shards)
    while window := list(islice(rest, length * workers)):
        size = -(-len(window) // workers)
        for start in range(0, len(window), size):
            yield DownloadJob(window[start : start + size], share)


def download_shards(job: DownloadJob) -> int:
    """Fetch and write the shards; returns how many samples they took on.

    Raises:
        BlipError: not one server of a shard could be reached, which is not the rows' fault.
    """
    runs = [(shard, _rows(shard.items)) for shard in job.shards]
    rows = [row for _, run in runs for row in run]
    with closing(fetch_all(rows, job.settings, job.shards[0].origin)) as found:
        return sum(_write(shard, run, found) for shard, run in runs)


def _write(shard: ShardJob, rows: Sequence[Address | Refused], found: Iterator[Sample | Refused]) -> int:
    pairs = zip(rows, islice(found, len(rows)), strict=True)
    return write_shard(replace(shard, items=_reached(pairs, shard.number)))


def _reached(pairs: Iterable[tuple[Address | Refused, Sample | Refused]], shard: int) -> Iterator[Item]:
    """What became of the rows; an error at the end, which leaves the shard unfinished, if no server answered."""
    asked, unreached, last = 0, 0, ""
    for row, item in pairs:
        asked += isinstance(row, Address) and not (isinstance(item, Refused) and item.reason in UNASKED)
        if isinstance(item, Refused) and item.reason in UNREACHED:
            unreached, last = unreached + 1, f"{item.reason}, {item.detail}"
        yield item
    if FEW <= asked == unreached:
        raise BlipError(
            f"none of the {asked:,} URLs of shard {shard} could be reached; the last: {last}. Is this machine "
            "connected? What is finished is kept: run the same again"
        )


def _rows(items: Iterable[Item]) -> list[Address | Refused]:
    return [item for item in items if not isinstance(item, Sample)]
