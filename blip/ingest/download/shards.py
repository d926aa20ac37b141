"""Shards of addresses: fetch the pictures of some shards, write one after the other meanwhile.

    for taken in download(work.jobs, settings, per_shard, pool): ...

While the slowest server of one shard is waited for, the next shards' pictures are coming; only the end of a job is
spent waiting, so jobs are long. Each shard is finished for itself; one that was finished before is neither fetched
nor looked at again.

A shard of which no server can be reached is left open, for it may be the network that is down, and is tried again when
all others are there. If its servers are still silent then, while others answer, its rows are lost; if none answers,
all that is open waits for another run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from blip.config import Download
from blip.data.jobs import Pool, run_jobs
from blip.data.sample import Sample
from blip.errors import BlipError
from blip.ingest.download.known import Before, Known
from blip.ingest.download.lost import UNASKED, UNREACHED
from blip.ingest.download.stream import fetch_all
from blip.ingest.shards import Item, ShardJob, write_shard
from blip.ingest.sources.refused import Refused
from blip.ingest.sources.urls import Address

ROWS_A_JOB = 20_000  # at 150 a second two minutes' work, beside which its last URL's `total_seconds` are few
ROWS_AHEAD = 200_000  # of all workers' next jobs, which wait in memory
FEW = 20  # rows of a shard that may all be dead by chance
SILENT_JOBS = 3  # one after the other, before it is asked whether the network is down
WITNESSES = 8  # addresses that gave a picture, to tell a dead host from a network that is down


@dataclass(frozen=True)
class DownloadJob:
    """Neighbouring shards whose items are addresses, and what one worker may do.

    Attributes:
        witnesses: of addresses that have answered; if one of them still does, a shard whose servers do not is lost.
        before: a dataset that was made of the same list, of which only what may come now is asked for again.
    """

    shards: list[ShardJob]
    settings: Download
    witnesses: tuple[Address, ...] = ()
    before: Path | None = None


@dataclass
class Downloaded:
    """What became of a job.

    Attributes:
        taken: samples of the shards that are finished.
        fetched: some addresses that gave a picture.
        silent: of each shard that was left open why.
    """

    taken: int = 0
    fetched: list[Address] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


class Silent(Exception):
    """No server of a shard could be reached."""


def download(
    jobs: Callable[[], Iterable[ShardJob]],
    settings: Download,
    per_shard: int,
    pool: Pool,
    fetched: Iterable[Address] = (),
    before: Path | None = None,
) -> Iterator[int]:
    """Fetch and write the shards, the silent ones last; yields how many samples were taken on.

    Args:
        jobs: gives the shards that are still to be made, as often as it is called.
        fetched: some addresses that an earlier run got pictures from.
        before: as a job has it.

    Raises:
        BlipError: shards are left whose servers could not be reached, nor those of others.
    """
    witnesses, silent = deque(fetched, WITNESSES), list[str]()
    for last in (False, True):
        asked, in_a_row, silent = tuple(witnesses) if last else (), 0, []
        of_links = download_jobs(jobs(), settings, per_shard, pool.workers, asked, before)
        for found in run_jobs(pool, download_shards, of_links):
            yield found.taken
            witnesses.extend(found.fetched)
            silent += found.silent
            in_a_row = in_a_row + 1 if found.silent and not found.fetched else 0
            if in_a_row == SILENT_JOBS:
                if not is_connected(tuple(witnesses), settings):
                    raise _unreachable(silent)
                in_a_row = 0
        if not silent or not witnesses:
            break
    if silent:
        raise _unreachable(silent)


def _unreachable(silent: Sequence[str]) -> BlipError:
    more = f" (and of {len(silent) - 1:,} other shard(s))" if len(silent) > 1 else ""
    return BlipError(
        f"none of the {silent[0]}{more}. Is this machine connected? What is finished is kept: run the same again"
    )


def is_connected(witnesses: Sequence[Address], settings: Download) -> bool:
    """Whether one of some addresses that have answered still does."""
    if not witnesses:
        return False
    with closing(fetch_all(list(witnesses), settings)) as found:
        return any(not (isinstance(item, Refused) and item.reason in UNREACHED) for item in found)


def download_jobs(
    shards: Iterable[ShardJob],
    settings: Download,
    per_shard: int,
    workers: int,
    witnesses: tuple[Address, ...] = (),
    before: Path | None = None,
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
            yield DownloadJob(window[start : start + size], share, witnesses, before)


def download_shards(job: DownloadJob) -> Downloaded:
    """Fetch and write the shards, but for those that are silent."""
    before = Before.open(job.before) if job.before else None
    runs = [(shard, _rows(shard.items)) for shard in job.shards]
    known = [before.known(shard.number, run) if before else Known() for shard, run in runs]
    rows = [row for (_, run), old in zip(runs, known, strict=True) for row in run if not old.has(row)]
    done = Downloaded()
    with closing(fetch_all(rows, job.settings, job.shards[0].origin)) as found:
        for (shard, run), old in zip(runs, known, strict=True):
            new = islice(found, sum(not old.has(row) for row in run))
            samples = before.samples(shard.number) if before else iter(())
            pairs = ((row, _item(row, old, samples, new)) for row in run)
            try:
                done.taken += write_shard(replace(shard, items=_reached(pairs, shard.number, job, old, done)))
            except Silent as silent:
                done.silent.append(str(silent))
    return done


def _item(
    row: Address | Refused, known: Known, samples: Iterator[Sample], found: Iterator[Sample | Refused]
) -> Sample | Refused:
    """What became of a row, before or now."""
    if not known.has(row):
        return next(found)
    if row.key in known.pictures:
        return next(sample for sample in samples if sample.key == row.key)
    return known.lost[row.key]


def _reached(
    pairs: Iterable[tuple[Address | Refused, Sample | Refused]],
    shard: int,
    job: DownloadJob,
    known: Known,
    done: Downloaded,
) -> Iterator[Item]:
    """What became of the rows; Silent at the end, which leaves the shard open, if the network may be down."""
    asked, unreached, last = 0, 0, ""
    for row, item in pairs:
        if known.has(row):
            yield item
            continue
        asked += isinstance(row, Address) and not (isinstance(item, Refused) and item.reason in UNASKED)
        if isinstance(item, Refused) and item.reason in UNREACHED:
            unreached, last = unreached + 1, f"{item.reason}, {item.detail}"
        elif isinstance(row, Address) and isinstance(item, Sample) and len(done.fetched) < WITNESSES:
            done.fetched.append(row)
        yield item
    if FEW <= asked == unreached and not is_connected(job.witnesses, job.settings):
        raise Silent(f"{asked:,} URLs of shard {shard} could be reached; the last: {last}")


def _rows(items: Iterable[Item]) -> list[Address | Refused]:
    return [item for item in items if not isinstance(item, Sample)]
