"""From a source to a pairs dataset, shard by shard; a run that was ended goes on where it was.

    references = References.of({"test": PairsDataset.open("data/datasets/test")}, bits=4)
    with open_pool() as pool:
        dataset = ingest_dataset(source, Path("data/datasets/human"), settings.ingest, references, pool)

The dataset grows in `.human.partial` beside its place and moves there when it is whole.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq

from blip.atomic import atomic_path
from blip.config import Ingest, Source, Vocabulary
from blip.data.jobs import HERE, Pool, run_jobs
from blip.data.metadata import METADATA
from blip.data.pairs import PairsDataset
from blip.data.parquet import read_column
from blip.data.part import PARTS, assemble, finished, finished_numbers, forget, refusals, tables
from blip.data.partial import PLAN, RANKS, begin, complete, discard
from blip.data.quarantine import BROKEN, NO_ANSWER
from blip.data.text import Tokenizer, clean_answer, clean_caption, clean_question, train_tokenizer
from blip.errors import BadArguments, BlipError
from blip.ingest.references import References
from blip.ingest.remote.ledger import FETCHED as FETCHED_FOLDER
from blip.ingest.remote.ledger import LEDGER, count_shards
from blip.ingest.shards import Item, ShardJob, cut, digest_of_items, write_shard
from blip.ingest.shares import OF_FILES, Share, is_bad, shares_of_parts
from blip.ingest.sources import Address, read
from blip.ingest.sources.notes import tell
from blip.ingest.sources.packs import count_packs
from blip.ingest.sources.refused import LINKED_AWAY

REFERENCES = "references.npz"
ORIGINS = "origins"  # among the parameters of a manifest
# Of the download's settings, what decides on a picture
DECIDING = {"max_bytes", "networks", "opt_outs", "robots_txt"}
EXAMPLES = 3
WAYS = {  # out of what a reason tells of
    BROKEN: "save a table as CSV UTF-8, or tell its encoding: `iconv -f cp1252 -t utf-8 OLD > NEW` (Windows), "
    "`-f shift-jis` (Japanese)",
    NO_ANSWER: "VQA v2's test questions, whose answers a server has, are read with --role evaluation "
    "(`role: evaluation` in params.yaml)",
}
FETCHED = 8
SECONDS_BETWEEN_LINES = 10.0
TELLING = 10  # samples a second, of which whole ones tell enough


def ingest_dataset(
    sources: Source | Sequence[Source],
    directory: Path,
    settings: Ingest,
    references: References | None = None,
    pool: Pool = HERE,
    origins: str | None = None,
    before: Path | None = None,
) -> PairsDataset:
    """Read one source or several into a pairs dataset.

    Args:
        sources: what to read; paths are relative to the current directory. Several must be of one origin, and all
            of them lists of URLs or none.
        directory: the dataset, which appears only when it is complete.
        settings: shard size, size limit and how much may be broken.
        references: pictures that must not be near; None for evaluation data.
        pool: who makes the shards.
        origins: what the manifest is to say of all that the dataset is made from, if anything.
        before: the same dataset as it was made of a list of URLs before, of which only what may come now is
            asked for again; of a store all is fetched anew.

    Raises:
        BadArguments: the sources do not go together.
        BlipError: a source cannot be read, has no sample, or more than `max_bad_fraction` of it is broken;
            the shards made so far stay for the next run.
    """
    sources = (sources,) if isinstance(sources, Source) else tuple(sources)
    _see_that_they_go_together(sources)
    work = _Work.begin(sources, directory, settings, references)
    try:
        _fill(work, directory, pool, before)
    except BlipError:
        work.leave_nothing_empty()
        raise
    work.finish({ORIGINS: origins} if origins else {})
    return PairsDataset.open(directory)


def _fill(work: _Work, directory: Path, pool: Pool, before: Path | None) -> None:
    """Make all shards, and see that not too much was refused."""
    started = shown = time.monotonic()
    samples = 0
    for taken in _make(work, pool, before):
        samples += taken
        if time.monotonic() - shown > SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            print(f"{directory.name}  {samples:,} samples  {speed(samples, shown - started)}", flush=True)
    work.check()


def _make(work: _Work, pool: Pool, before: Path | None) -> Iterator[int]:
    """Make the shards, those of URL lists by fetching."""

    def jobs() -> Iterator[ShardJob]:
        return work.jobs(read(work.sources, work.settings.max_caption_chars))

    if work.sources[0].is_remote:
        return run_jobs(pool, write_shard, work.remote_jobs())
    if work.sources[0].kind != "urls":
        return run_jobs(pool, write_shard, jobs())
    from blip.ingest.download.shards import download

    settings = work.settings
    return download(jobs, settings.download, settings.samples_per_shard, pool, work.fetched(), before)


def speed(samples: int, seconds: float) -> str:
    """Samples a second in words, of a few with what is behind the point."""
    rate = samples / seconds
    return f"{rate:,.0f}/s" if rate >= TELLING else f"{rate:.2g}/s"


def _see_that_they_go_together(sources: Sequence[Source]) -> None:
    if len({source.origin for source in sources}) > 1:
        raise BadArguments("the sources of a dataset must have one origin; make a dataset of those of each")
    if len({source.grey_range for source in sources}) > 1:
        raise BadArguments(
            "the sources of a dataset must have one grey_range; make a dataset of those of each"
        )
    if len({source.kind == "urls" for source in sources}) > 1:
        raise BadArguments("lists of URLs cannot go into one dataset with pictures; make two datasets")
    if len({source.is_remote for source in sources}) > 1:
        raise BadArguments(
            "what lies in a store cannot go into one dataset with what lies here; make two datasets"
        )


@dataclass(frozen=True)
class _Work:
    """A dataset in the making: the directory in which its parts gather."""

    directory: Path
    sources: tuple[Source, ...]
    target: Path
    settings: Ingest
    references: Path | None

    @classmethod
    def begin(
        cls, sources: tuple[Source, ...], target: Path, settings: Ingest, references: References | None
    ) -> _Work:
        """Go on with what an earlier run left, if it was about the same; start anew otherwise."""
        directory = begin(target, plan_of(sources, settings, references))
        file = directory / REFERENCES if references else None
        if references and file and not file.is_file():
            references.write(file)
        return cls(directory, sources, target, settings, file)

    def remote_jobs(self) -> Iterator[ShardJob]:
        """The shards that are still to be made of sources in a store."""
        from blip.ingest.remote.reading import Reading

        reading = Reading(self.sources, self.directory, self.settings)
        place = reading.place()
        with closing(reading.items(place)) as items:
            yield from self.jobs(items, place.part)

    def jobs(self, items: Iterable[Item], first: int = 0) -> Iterator[ShardJob]:
        """The shards that are still to be made, of which the first is that of the first item."""
        done = {number: known for number, known in finished(self.directory).items() if number >= first}
        for number, run in enumerate(cut(items, self.settings.samples_per_shard), first):
            digest = digest_of_items(run)
            known = done.pop(number, None)
            if known is None or known.items != digest:
                yield ShardJob(
                    self.directory,
                    number,
                    run,
                    self.sources[0].origin,
                    self.settings.max_pixels,
                    self.references,
                    digest,
                    self.sources[0].grey_range,
                )
        forget(self.directory, done)  # the source has become shorter

    def fetched(self) -> list[Address]:
        """An address of each of the parts finished last that had one which gave a picture."""
        paths = tables(self.directory, sorted(finished_numbers(self.directory)), "metadata")[-FETCHED:]
        urls = [pq.read_table(path, columns=["url"])["url"][0].as_py() for path in paths]
        return [Address("", url, "") for url in urls if url]

    def check(self) -> None:
        """Say what is not used of pictures that are. Raises BlipError if too much was refused, or everything."""
        receipts = finished(self.directory)
        refused: Counter[str] = Counter()
        for receipt in receipts.values():
            refused.update(receipt.quarantined)
        samples = sum(receipt.shard.samples for receipt in receipts.values() if receipt.shard)
        bad = sum(count for reason, count in refused.items() if is_bad(reason, self.sources[0].kind))
        limit = self.settings.max_bad_fraction
        self._see_that_files_are_whole(refused, limit, list(receipts))
        if bad > limit * (samples + refused.total()):  # else no share is over it
            for share in shares_of_parts(self.directory, list(receipts), self.sources[0].kind):
                self._see_that_it_is_small(share, limit, list(receipts))
        if not samples:
            self._see_nothing(refused, list(receipts))
        if paged := sum(receipt.paged for receipt in receipts.values()):
            tell(
                f"source {self._named()}: {paged:,} of {samples:,} pictures have several pages or frames, of which the "
                "first is the picture; save the others as files of their own if they are to be read"
            )

    def _see_that_files_are_whole(self, refused: Counter[str], limit: float, numbers: list[int]) -> None:
        """Raises BlipError: with each of too many files samples are lost, of which nobody knows how many."""
        broken = Counter({reason: count for reason, count in refused.items() if reason in OF_FILES})
        total = max(self._packs(), broken.total()) if broken else 0
        if broken.total() <= limit * total:
            return
        files = "files and folders" if broken[LINKED_AWAY] else "files"
        raise BlipError(
            f"source {self._named()}: {broken.total():,} of {total:,} {files} cannot be read to their end "
            f"({_listed(broken)}), and what they lack is in no count; get them again, or allow for that share of files "
            f"(ingest.max_bad_fraction = {limit}, --max-bad-fraction) and run again: what was read waits in "
            f"{self.directory}. The first:" + self._examples(numbers, set(broken))
        )

    def _packs(self) -> int:
        """How many files and folders there are in the sources that may end too early, or not come."""
        if self.sources[0].is_remote:
            return count_shards(self.directory)
        return sum(map(count_packs, self.sources))

    def _see_that_it_is_small(self, share: Share, limit: float, numbers: list[int]) -> None:
        if not share.is_over(limit):
            return
        raise BlipError(
            f"source {self._named()}: {share.bad.total():,} of {share.total:,} {share.what} cannot be used "
            f"({_listed(share.bad)}), more than ingest.max_bad_fraction = {limit} (--max-bad-fraction); repair the "
            f"source, or raise the limit and run again: what was read waits in {self.directory}. The first:"
            + self._examples(numbers, set(share.bad))
            + _ways_out(share.bad)
        )

    def _see_nothing(self, refused: Counter[str], numbers: list[int]) -> None:
        """Raises BlipError: no sample is left. What was made goes, for nothing of it would be used."""
        said = f"({_listed(refused)}). The first:{self._examples(numbers, set(refused))}" if refused else ""
        said += _ways_out(refused)
        forget(self.directory, numbers)
        if not refused:
            empty = [
                s.source
                for s in self.sources
                if Path(s.source).is_dir() and not any(Path(s.source).iterdir())
            ]
            why = (
                f"{', '.join(empty)} is an empty folder"
                if empty
                else "it has no row and no picture that is read"
            )
            raise BlipError(f"source {self._named()}: no sample is left of 0: {why}")
        raise BlipError(f"source {self._named()}: no sample is left of {refused.total():,} {said}")

    def _examples(self, numbers: list[int], reasons: set[str]) -> str:
        rows = (row for row in refusals(self.directory, numbers) if row["reason"] in reasons)
        return "".join(
            f"\n  {row['key']}: {row['reason']}, {row['detail']}" for row in islice(rows, EXAMPLES)
        )

    def _named(self) -> str:
        return ", ".join(source.source for source in self.sources)

    def leave_nothing_empty(self) -> None:
        """Take the directory away where nothing was made: the next run would find nothing in it."""
        begun = (PLAN, RANKS, REFERENCES)
        if all(path.is_dir() or path.name in begun for path in self.directory.rglob("*")):
            discard(self.directory)

    def finish(self, more: dict[str, str]) -> None:
        """Join the parts and put the dataset in its place; its manifest says `more`, too."""
        kept = self.settings.model_dump(include={"max_pixels", "near_duplicate_bits"})
        told = [source.model_dump(exclude_none=True) for source in self.sources]
        parameters = told[0] if len(told) == 1 else {"sources": told}
        assemble(self.directory, [source.source for source in self.sources], parameters | kept | more)
        complete(self.directory, self.target, PARTS, REFERENCES, LEDGER, FETCHED_FOLDER)


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common() if count)


def _ways_out(reasons: Counter[str]) -> str:
    return "".join(f"\n{reason}: {way}" for reason, way in WAYS.items() if reasons[reason])


def plan_of(sources: Sequence[Source], settings: Ingest, references: References | None) -> dict[str, object]:
    """What makes two runs the same: which sources, how they are cut, which pictures are refused.

    What lies in the sources the digests of the shards tell, so a file that is repaired is no other plan.
    """
    limits = settings.model_dump(include={"samples_per_shard", "max_pixels"})
    if sources[0].is_remote:  # what is finished is not read again, so no digest tells
        limits["max_caption_chars"] = settings.max_caption_chars
    download = settings.download.model_dump(include=DECIDING) if sources[0].kind == "urls" else {}
    described = [source.model_dump(exclude={"role"}) for source in sources]
    told = {"sources": described, "references": references.digest if references else None}
    return told | limits | download


def write_vocabulary(directory: Path, settings: Vocabulary, datasets: Iterable[PairsDataset]) -> int:
    """Write `vocab.txt`: the given file, or one trained on the datasets' texts; returns its size."""
    if settings.file:
        tokenizer = Tokenizer.from_vocabulary(settings.file)
    else:
        tokenizer = train_tokenizer(_texts(datasets), settings.size)
    with atomic_path(directory) as temporary:
        tokenizer.save_vocabulary(temporary)
    return len(tokenizer.vocabulary)


def _texts(datasets: Iterable[PairsDataset]) -> Iterator[str]:
    """All that is said of the pictures; only where there are questions the shards are read, which alone have them."""
    for dataset in datasets:
        if not any(read_column(dataset.path / METADATA, "questions")):
            yield from dataset.texts()
            continue
        for sample in dataset.samples():
            for caption in sample.captions:
                yield clean_caption(caption.text)
            for question in sample.questions:
                yield clean_question(question.text)
                yield from map(clean_answer, question.answers)
