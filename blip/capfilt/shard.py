"""The job that bootstraps one shard: caption its images, judge every text, write what is kept and why.

    for job in jobs: bootstrap_shard(job)

A caption depends on the seed and its image's key, a batch never reaches over the end of a shard, and every job
computes on as many threads: the result is the same whoever does which shard, in which order, how often begun anew.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from blip.capfilt.decision import NO_MATCH, SCHEMA, Decision, Judged
from blip.capfilt.judge import Judge, Jury
from blip.capfilt.neighbours import Neighbours
from blip.capfilt.rules import EMPTY, rejected
from blip.config import CapFilt, FilterHead
from blip.data.images import preprocess, to_pil
from blip.data.manifest import MANIFEST, Shard
from blip.data.metadata import METADATA
from blip.data.pairs import Caption, PairsDataset, Sample, excluded_in
from blip.data.part import PartWriter
from blip.data.text import clean_caption
from blip.errors import BlipError
from blip.model.api import Blip, keyed_uniforms
from blip.model.generation import Decoding

AUDIT = "audit"
MEMBERS = "members"
BAD_SHARD = "bad_shard"


@dataclass(frozen=True)
class Pairs:
    """A dataset on disk and the file that lists the keys to leave out, if there is one."""

    dataset: Path
    excluded: Path | None = None

    def samples(self, shard: Shard) -> Iterator[Sample]:
        """The samples of a shard that are not left out."""
        changed = (self.dataset / MANIFEST).stat().st_mtime_ns
        return _opened(self.dataset, changed).shard_samples(shard, excluded_in(self.excluded))

    def texts(self) -> Iterator[str]:
        """All captions, cleaned; read from the metadata."""
        return PairsDataset.open(self.dataset).texts(excluded_in(self.excluded))

    def spread(self, limit: int) -> tuple[list[Shard], int]:
        """Shards from all over the dataset, and of how many samples of each to take the first, for `limit` in all."""
        shards = PairsDataset.open(self.dataset).manifest.shards
        return shards[:: max(1, len(shards) // limit)], max(1, limit // max(len(shards), 1))

    def shards(self) -> Iterator[tuple[Shard, dict[str, int]]]:
        """The shards, each with the perceptual hashes of its pictures by key: one pass over the metadata.

        Raises:
            BlipError: the metadata are of other shards, or in another order.
        """
        hashes = groupby(self._hashes(), key=itemgetter(0))
        for shard in PairsDataset.open(self.dataset).manifest.shards:
            url, rows = next(hashes, ("nothing", iter(())))
            if url != shard.url:
                raise BlipError(
                    f"{self.dataset / METADATA} has {url} where {MANIFEST} has {shard.url}; make the dataset again"
                )
            yield shard, {key: phash for _, key, phash in rows}

    def _hashes(self) -> Iterator[tuple[str, str, int]]:
        with pq.ParquetFile(self.dataset / METADATA) as file:
            for batch in file.iter_batches(columns=["shard", "key", "phash"]):
                yield from zip(*(batch[name].to_pylist() for name in ("shard", "key", "phash")), strict=True)


@dataclass(frozen=True)
class Models:
    """Where captioner and filters are, what they run on and how; several filters decide together."""

    captioner: Path
    filters: tuple[Path, ...]
    device: str = "cpu"
    dtype: str = "float32"
    compiled: bool = False
    threads: int = 1

    @classmethod
    def of(
        cls,
        captioner: Path,
        filters: Iterable[Path],
        device: str,
        dtype: str = "float32",
        compiled: bool = False,
    ) -> "Models":
        """With the filters' members: models of the same training that lie in folders of `MEMBERS` within them."""
        found = (one for path in filters for one in (path, *_members(path)))
        return cls(captioner, tuple(found), device, dtype, compiled)

    @property
    def arithmetic(self) -> dict[str, str | bool]:
        """What results depend on in their rounding."""
        return {"dtype": self.dtype, "compile": self.compiled}

    def open(self, directory: Path) -> Blip:
        """One of them, opened once in a process."""
        return open_model(directory, self.device, self.dtype, self.compiled)


def _members(directory: Path) -> list[Path]:
    members = (path for path in (directory / MEMBERS).glob("*") if path.name.isdecimal())
    return sorted(members, key=lambda path: int(path.name))


class Thresholds(NamedTuple):
    """Probabilities of matching from which web texts and synthetic captions are kept."""

    web: float
    synthetic: float


@dataclass(frozen=True)
class ShardJob:
    """One shard to bootstrap, or, of the human pairs, to take over as it is.

    Attributes:
        directory: of the dataset that grows.
        number: of the part to write.
        human: whose texts the filter's embeddings are compared with.
        thresholds: probabilities of matching from which a text is kept, by its origin.
        hashes: perceptual hashes of the shard's pictures by key.
        neighbours: the file with the pool as the filters embed it, where similar pictures have a say.
    """

    directory: Path
    number: int
    shard: Shard
    hashes: dict[str, int]
    web: Pairs
    human: Pairs | None
    models: Models
    settings: CapFilt
    thresholds: Thresholds
    seed: int
    is_human: bool = False
    neighbours: Path | None = None


@dataclass(frozen=True)
class Tally:
    """Images and texts of a shard, and how many of them were kept."""

    images: int = 0
    web: int = 0
    web_kept: int = 0
    synthetic: int = 0
    synthetic_kept: int = 0
    dropped: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(one + two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))


class Doubtful(NamedTuple):
    """A cleaned text to be judged with the image at `place` of its batch, and why a rule rejects it already."""

    place: int
    origin: str
    text: str
    reason: str


def bootstrap_shard(job: ShardJob) -> Tally:
    """Write the part of one shard; a shard that cannot be read is set aside as a whole."""
    torch.set_num_threads(job.models.threads)
    source = job.human if job.is_human and job.human else job.web
    try:
        return _copy(job, source) if job.is_human else _bootstrap(job)
    except BlipError as error:
        if not is_bad(source, job.shard):
            raise
        with PartWriter(job.directory, job.number) as part:
            part.quarantine(f"{job.shard.url}", BAD_SHARD, str(error))
        return Tally()


def is_bad(source: Pairs, shard: Shard) -> bool:
    """Whether the shard itself is what failed."""
    try:
        for _ in PairsDataset.open(source.dataset).shard_samples(shard):
            pass
    except BlipError:
        return True
    return False


def _copy(job: ShardJob, source: Pairs) -> Tally:
    with PartWriter(job.directory, job.number) as part:
        for sample in source.samples(job.shard):
            part.add(sample, phash=job.hashes[sample.key])
    return Tally()


def _bootstrap(job: ShardJob) -> Tally:
    counts: Counter[str] = Counter()
    rows = []
    with PartWriter(job.directory, job.number) as part:
        samples = iter(job.web.samples(job.shard))
        while batch := list(islice(samples, job.settings.batch_size)):
            for decision in _decide(batch, job):
                rows.append(decision.audit_row())
                _count(counts, decision)
                if decision.kept:
                    kept = replace(decision.sample, captions=decision.kept)
                    part.add(kept, phash=job.hashes[kept.key])
                else:
                    part.quarantine(decision.sample.key, decision.reason, _why(decision))
        part.attach(AUDIT, pa.Table.from_pylist(rows, SCHEMA))
    return Tally(**counts)


def _decide(batch: Sequence[Sample], job: ShardJob) -> list[Decision]:
    """Write captions for each image and judge all texts; the image is encoded once by each model."""
    captioner = job.models.open(job.models.captioner)
    jury = jury_of(job.models, job.settings, job.human, job.neighbours)
    pictures = [to_pil(sample.media) for sample in batch]
    written = _write_captions(batch, captioner, preprocess(pictures, captioner.image_size), job)
    doubtful = [*_web_texts(batch), *_synthetic_texts(written, captioner.card.prompt, len(batch))]
    keys, texts = [sample.key for sample in batch], [text.text for text in doubtful]
    places = torch.tensor([text.place for text in doubtful])
    verdicts = jury(
        pictures, keys, texts, places, torch.tensor([text.origin == "synthetic" for text in doubtful])
    )
    judged: dict[tuple[int, str], list[Judged]] = defaultdict(list)
    for text, *verdict in zip(doubtful, *(values.tolist() for values in verdicts), strict=True):
        threshold = job.thresholds.synthetic if text.origin == "synthetic" else job.thresholds.web
        judged[text.place, text.origin].append(_judged(text, verdict, threshold))
    return [
        Decision(sample, tuple(judged[place, "web"]), tuple(judged[place, "synthetic"]))
        for place, sample in enumerate(batch)
    ]


def _web_texts(batch: Sequence[Sample]) -> Iterator[Doubtful]:
    for place, sample in enumerate(batch):
        for caption in sample.captions:
            text = clean_caption(caption.text)
            yield Doubtful(place, "web", text, "" if text else EMPTY)


def _synthetic_texts(written: Sequence[str], prompt: str, images: int) -> Iterator[Doubtful]:
    copies = len(written) // images
    for number, text in enumerate(written):
        yield Doubtful(number // copies, "synthetic", text, rejected(text, prompt))


def _judged(text: Doubtful, verdict: Sequence[float], threshold: float) -> Judged:
    itm, itc, neighbours, likelihood, score = (round(value, 6) for value in verdict)
    reason = text.reason or ("" if score >= threshold else NO_MATCH)
    return Judged(Caption(text.text, text.origin, itm, itc), score, neighbours, likelihood, reason)


def _write_captions(batch: Sequence[Sample], captioner: Blip, pixels: Tensor, job: ShardJob) -> list[str]:
    """The captions of all images, those of one image together."""
    how = job.settings
    nucleus = how.decoding == "nucleus"
    decoding = Decoding(
        how.max_tokens, how.min_tokens, beams=1 if nucleus else 3, top_p=how.top_p if nucleus else None
    )
    uniforms = None
    if nucleus:
        keys = [key for sample in batch for key in _draws(sample.key, how.captions_per_image)]
        uniforms = keyed_uniforms(keys, job.seed, how.max_tokens)
    tokens = captioner.encode_images(pixels, len(batch))
    texts = captioner.caption_tokens(tokens, decoding, uniforms=uniforms, copies=how.captions_per_image)
    return [clean_caption(text) for text in texts]


def _draws(key: str, count: int) -> list[str]:
    """Names of the random numbers of an image's captions; the first is the same however many there are."""
    return [key, *(f"{key}/{number}" for number in range(1, count))]


def _why(decision: Decision) -> str:
    texts = (*decision.web, *decision.synthetic)
    return "; ".join(f"{text.caption.text[:60]!r} {text.score:.3f} {text.reason}" for text in texts)


def _count(counts: Counter[str], decision: Decision) -> None:
    counts["images"] += 1
    counts["web"] += len(decision.web)
    counts["web_kept"] += sum(not text.reason for text in decision.web)
    counts["synthetic"] += len(decision.synthetic)
    counts["synthetic_kept"] += sum(not text.reason for text in decision.synthetic)
    counts["dropped"] += not decision.kept


def jury_of(models: Models, settings: CapFilt, human: Pairs | None, neighbours: Path | None = None) -> Jury:
    """The filters, opened once in a process; their embeddings are compared with the texts of `human`.

    Args:
        neighbours: what `blip.capfilt.embedding` wrote of the pool; without it similar pictures have no say.
    """
    changed = neighbours.stat().st_mtime_ns if neighbours else 0
    near = (neighbours, changed, settings.neighbours) if neighbours else None
    texts_of = human if settings.head != "itm" else None
    return _assemble_jury(models, settings.head, settings.views, settings.likelihood, texts_of, near)


@lru_cache(maxsize=4)
def _opened(dataset: Path, changed: int) -> PairsDataset:
    """A dataset, whose manifest is read once and not for every shard of it; `changed` is when it was written."""
    return PairsDataset.open(dataset)


@lru_cache(maxsize=4)
def open_model(directory: Path, device: str, dtype: str, compiled: bool) -> Blip:
    """A model of this process, opened once."""
    return Blip.open(directory, device, dtype, compiled)


@lru_cache(maxsize=1)
def _assemble_jury(
    models: Models,
    head: FilterHead,
    views: tuple[float, ...],
    likelihood: float,
    human: Pairs | None,
    near: tuple[Path, int, float] | None,
) -> Jury:
    texts = list(human.texts()) if human else []
    judges = []
    for number, path in enumerate(models.filters):
        model = models.open(path)
        neighbours = Neighbours.read(near[0], number, model.device) if near else None
        judges.append(Judge.of(model, head, texts, neighbours, near[2] if near else 0.0))
    captioner = models.open(models.captioner) if likelihood else None
    return Jury(judges, views, captioner, likelihood)


def forget_models() -> None:
    """Free what this process has opened; where workers do the jobs, it needs no model."""
    open_model.cache_clear()
    _assemble_jury.cache_clear()
