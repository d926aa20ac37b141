"""The job that makes one shard: decode every picture, set aside what is broken or too like a test picture.

    for job in shard_jobs(items, work, settings): write_shard(job)

The items of a source are cut into jobs of equal length, so a job's number tells its items: one that is
finished is passed over when the run is repeated, and the dataset is the same whoever did which job.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from pathlib import Path

from blip.data.archive import MEMBER_LIMIT, TOO_LARGE
from blip.data.decode import MAX_PIXELS, BadMedia, is_paged
from blip.data.grey import GreyRange
from blip.data.media import Look, looks_at
from blip.data.part import PartWriter
from blip.data.quarantine import NEAR_DUPLICATE
from blip.data.sample import Sample
from blip.ingest.eight_bits import in_eight_bits
from blip.ingest.references import References
from blip.ingest.sources.refused import Refused
from blip.ingest.sources.urls import Address

MAX_BYTES = 256 << 20  # of a job's media, which wait in memory
SMALLER = f"raise ingest.max_pixels, which can be {MAX_PIXELS:,}, or make it smaller"

Item = Sample | Refused | Address  # an address is fetched before its shard is written


@dataclass(frozen=True)
class ShardJob:
    """One shard to make in the directory of a dataset; `references` is a file of `References`, if any."""

    directory: Path
    number: int
    items: Iterable[Item]
    origin: str
    max_pixels: int
    references: Path | None
    digest: str = ""
    grey_range: GreyRange | None = None


def digest_of_items(items: Iterable[Item]) -> str:
    """Equal for equal items: a shard that was made of others is made again."""
    digest = blake2b(digest_size=16)
    for item in items:
        for field in fields(item):
            if field.name == "name":  # of which the key is made
                continue
            value = getattr(item, field.name)
            digest.update(value if isinstance(value, bytes) else repr(value).encode())
            digest.update(b"\0")
    return digest.hexdigest()


def write_shard(job: ShardJob) -> int:
    """Make a shard; returns how many samples it took on."""
    references = References.read(job.references) if job.references else None
    with PartWriter(job.directory, job.number, job.origin, job.digest) as part:
        for item in _checked(job.items, job.max_pixels, job.grey_range):
            if isinstance(item, Refused):
                part.quarantine(item.key, item.reason, item.detail, item.payload)
                continue
            sample, looks, paged = item
            near = next(filter(None, map(references.near, looks)), None) if references else None
            if near:
                part.quarantine(sample.key, NEAR_DUPLICATE, f"looks like {near}", sample.media)
            else:
                part.add(sample, phash=looks[0].phash, paged=paged)
        return part.samples


def cut(items: Iterable[Item], length: int) -> Iterator[list[Item]]:
    """Runs of `length` items, or fewer where their media are large; where they are cut depends on the items only."""
    run: list[Item] = []
    held = 0
    for item in items:
        run.append(item)
        held += _bytes(item)
        if len(run) == length or held >= MAX_BYTES:
            yield run
            run, held = [], 0
    if run:
        yield run


def _bytes(item: Item) -> int:
    if isinstance(item, Sample):
        return len(item.media) + len(item.partner or b"")
    return len(item.payload or b"") if isinstance(item, Refused) else 0


def _checked(
    items: Iterable[Item], max_pixels: int, grey_range: GreyRange | None
) -> Iterator[tuple[Sample, list[Look], bool] | Refused]:
    """Decode each sample, to know how its pictures look and whether one has more pages, or refuse it."""
    for item in items:
        if isinstance(item, Refused):
            yield item
            continue
        if isinstance(item, Address):
            raise ValueError(f"{item.url} has not been fetched")
        if (size := max(len(item.media), len(item.partner or b""))) > MEMBER_LIMIT:
            detail = (
                f"{size:,} bytes, over the {MEMBER_LIMIT:,} that a shard has in one; cut a film into clips"
            )
            yield Refused(item.key, TOO_LARGE, detail)
            continue
        try:
            sample = in_eight_bits(item, grey_range, max_pixels) if grey_range else item
            looks = looks_at(sample, max_pixels, strict=True)
        except BadMedia as error:
            way = f"; {SMALLER}" if error.reason == TOO_LARGE else ""
            named = f"{item.name}: " if item.name else ""
            yield Refused(item.key, error.reason, named + error.detail + way, item.media)
            continue
        paged = not item.is_video and (is_paged(item.media) or is_paged(item.partner or b""))
        yield replace(sample, width=looks[0].width, height=looks[0].height), looks, paged
