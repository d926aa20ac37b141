"""The job that bootstraps one shard: caption its images, judge every text, write what is kept and why.

    for job in jobs: bootstrap_shard(job, beat)

A caption depends on the seed and its image's key, a batch never reaches over the end of a shard, and every job
computes on as many threads: the result is the same whoever does which shard, in which order, how often begun anew.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa
import torch
from torch import Tensor

from blip.capfilt.decision import NO_MATCH, SCHEMA, Decision, Judged
from blip.capfilt.inputs import Order, Pairs
from blip.capfilt.judge import Jury, Verdicts
from blip.capfilt.jury import jury_of
from blip.capfilt.pictures import Seen, View, Views, ahead
from blip.capfilt.rules import EMPTY, rejected
from blip.data.manifest import Shard
from blip.data.pairs import Caption, Sample, excluded_in
from blip.data.part import PartWriter
from blip.data.text import clean_caption
from blip.errors import BlipError
from blip.model.api import Blip, keyed_uniforms
from blip.model.generation import Decoding
from blip.tasks.batches import batches
from blip.training.heartbeat import Heartbeat

AUDIT = "audit"
BAD_SHARD = "bad_shard"


class Thresholds(NamedTuple):
    """Probabilities of matching from which web texts and synthetic captions are kept."""

    web: float
    synthetic: float

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Thresholds":
        """Those that the manifest of the dataset names."""
        return cls(found["threshold"], found["synthetic_threshold"])


@dataclass(frozen=True)
class ShardJob:
    """One shard to bootstrap, or, of the human pairs, to take over as it is.

    Attributes:
        directory: of the dataset that grows.
        number: of the part to write.
        source: the pairs that the shard is of; the order's web pairs are bootstrapped.
        hashes: perceptual hashes of the shard's pictures by key.
        thresholds: probabilities of matching from which a text is kept, by its origin.
        neighbours: the file with the pool as the filters embed it, where similar pictures have a say.
    """

    directory: Path
    number: int
    order: Order
    source: Pairs
    shard: Shard
    hashes: dict[str, int]
    thresholds: Thresholds
    neighbours: Path | None = None


@dataclass(frozen=True)
class Tally:
    """Images and texts of a shard, how many of them were kept, and how many images could not be used."""

    images: int = 0
    web: int = 0
    web_kept: int = 0
    synthetic: int = 0
    synthetic_kept: int = 0
    dropped: int = 0
    bad: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(one + two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))


class Doubtful(NamedTuple):
    """A cleaned text to be judged with the image at `place` of its batch, and why a rule rejects it already."""

    place: int
    origin: str
    text: str
    reason: str


def bootstrap_shard(job: ShardJob, beat: Heartbeat) -> Tally:
    """Write the part of one shard; one that is damaged is set aside as a whole, a picture that is by itself.

    Args:
        beat: has a sign for each batch, for a shard may take longer than a rank may be silent.

    Raises:
        BlipError: the shard cannot be read, or something else than the shard is wrong.
    """
    torch.set_num_threads(job.order.models.threads)
    try:
        return _bootstrap(job, beat) if job.source == job.order.web else _copy(job)
    except BlipError as error:
        if not job.source.is_bad(job.shard):
            raise
        return _set_aside(job, str(error))


def _set_aside(job: ShardJob, why: str) -> Tally:
    excluded = excluded_in(job.source.excluded)
    with PartWriter(job.directory, job.number) as part:
        for key in job.hashes:
            if key not in excluded:
                part.quarantine(key, BAD_SHARD, why)
        return Tally(bad=part.refused)


def _copy(job: ShardJob) -> Tally:
    with PartWriter(job.directory, job.number) as part:
        for sample in job.source.samples(job.shard):
            part.add(sample, phash=job.hashes[sample.key])
    return Tally()


def _bootstrap(job: ShardJob, beat: Heartbeat) -> Tally:
    counts: Counter[str] = Counter()
    rows = []
    batched = batches(job.source.samples(job.shard), job.order.settings.batch_size)
    with PartWriter(job.directory, job.number) as part:
        for seen in beat.watched(ahead(batched, _wanted(job), job.order.models.decoders)):
            for decision in _decide(seen, job):
                rows.append(decision.audit_row())
                _count(counts, decision)
                if decision.kept:
                    kept = replace(decision.sample, captions=decision.kept)
                    part.add(kept, phash=job.hashes[kept.key])
                else:
                    part.quarantine(decision.sample.key, decision.reason, _why(decision))
        part.attach(AUDIT, pa.Table.from_pylist(rows, SCHEMA))
    return Tally(**counts)


def _models(job: ShardJob) -> tuple[Blip, Jury]:
    """The captioner and the filters, opened once in a process."""
    order = job.order
    captioner = order.models.open(order.models.captioner)
    return captioner, jury_of(order.models, order.settings, order.human, job.neighbours)


def _wanted(job: ShardJob) -> frozenset[View]:
    captioner, jury = _models(job)
    return jury.wanted | {View(captioner.image_size)}


def _decide(seen: Seen, job: ShardJob) -> list[Decision]:
    """What becomes of each sample of a batch, in its order."""
    judged = iter(_judge(seen.good, seen.views, job))
    return [
        Decision(sample, problem=str(why)) if (why := seen.refused.get(sample.key)) else next(judged)
        for sample in seen.batch
    ]


def _judge(batch: Sequence[Sample], pictures: Views, job: ShardJob) -> list[Decision]:
    """Write captions for each image and judge all texts; a view is encoded once by each model."""
    if not batch:
        return []
    captioner, jury = _models(job)
    tokens = captioner.encode_images(pictures[View(captioner.image_size)], len(batch))
    written = _write_captions(batch, captioner, tokens, job.order)
    doubtful = [*_web_texts(batch), *_synthetic_texts(written, captioner.card.prompt, len(batch), job.order)]
    keys, texts = [sample.key for sample in batch], [text.text for text in doubtful]
    places = torch.tensor([text.place for text in doubtful])
    synthetic = torch.tensor([text.origin == "synthetic" for text in doubtful])
    verdicts = jury(pictures, keys, texts, places, synthetic, tokens)
    judged: dict[tuple[int, str], list[Judged]] = defaultdict(list)
    for text, *verdict in zip(doubtful, *(values.tolist() for values in verdicts), strict=True):
        if not all(map(math.isfinite, verdict)):
            _refuse(keys[text.place], text, dict(zip(Verdicts._fields, verdict, strict=True)), job)
        threshold = job.thresholds.synthetic if text.origin == "synthetic" else job.thresholds.web
        judged[text.place, text.origin].append(_judged(text, verdict, threshold))
    return [
        Decision(sample, tuple(judged[place, "web"]), tuple(judged[place, "synthetic"]))
        for place, sample in enumerate(batch)
    ]


def _refuse(key: str, text: Doubtful, verdict: dict[str, float], job: ShardJob) -> NoReturn:
    """A score that is no number would be below every threshold, and its text dropped for a fault of the models."""
    models = job.order.models
    asked = ", ".join(map(str, (*models.filters, models.captioner)))
    said = ", ".join(f"{name} {value}" for name, value in verdict.items() if not math.isfinite(value))
    raise BlipError(
        f"sample {key} of {job.shard.url}, {text.origin} text {text.text[:60]!r}: {said} by the models {asked} in "
        f"{models.dtype}; their weights may be damaged: train or fetch them again"
    )


def _web_texts(batch: Sequence[Sample]) -> Iterator[Doubtful]:
    for place, sample in enumerate(batch):
        for caption in sample.captions:
            text = clean_caption(caption.text)
            yield Doubtful(place, "web", text, "" if text else EMPTY)


def _synthetic_texts(written: Sequence[str], prompt: str, images: int, order: Order) -> Iterator[Doubtful]:
    copies = len(written) // images
    for number, text in enumerate(written):
        reason = rejected(text, prompt, order.settings.drop_repeats)
        yield Doubtful(number // copies, "synthetic", text, reason)


def _judged(text: Doubtful, verdict: Sequence[float], threshold: float) -> Judged:
    """The score decides as it is: rounded, those of all texts that a filter is sure of would be equal."""
    *others, score = verdict
    itm, itc, neighbours, likelihood = (round(value, 6) for value in others)
    reason = text.reason or ("" if score >= threshold else NO_MATCH)
    return Judged(Caption(text.text, text.origin, itm, itc), score, neighbours, likelihood, reason)


def _write_captions(batch: Sequence[Sample], captioner: Blip, tokens: Tensor, order: Order) -> list[str]:
    """The captions of all images, those of one image together."""
    how = order.settings
    nucleus = how.decoding == "nucleus"
    decoding = Decoding(
        how.max_tokens,
        how.min_tokens,
        beams=1 if nucleus else 3,
        top_p=how.top_p if nucleus else None,
        repetition_penalty=how.repetition_penalty,
    )
    uniforms = None
    if nucleus:
        keys = [key for sample in batch for key in _draws(sample.key, how.captions_per_image)]
        uniforms = keyed_uniforms(keys, order.seed, how.max_tokens)
    texts = captioner.caption_tokens(tokens, decoding, uniforms=uniforms, copies=how.captions_per_image)
    return [clean_caption(text) for text in texts]


def _draws(key: str, count: int) -> list[str]:
    """Names of the random numbers of an image's captions; the first is the same however many there are."""
    return [key, *(f"{key}/{number}" for number in range(1, count))]


def _why(decision: Decision) -> str:
    if decision.problem:
        return decision.problem
    texts = (*decision.web, *decision.synthetic)
    return "; ".join(f"{text.caption.text[:60]!r} {text.score:.3f} {text.reason}" for text in texts)


def _count(counts: Counter[str], decision: Decision) -> None:
    counts["images"] += 1
    counts["web"] += len(decision.web)
    counts["web_kept"] += sum(not text.reason for text in decision.web)
    counts["synthetic"] += len(decision.synthetic)
    counts["synthetic_kept"] += sum(not text.reason for text in decision.synthetic)
    counts["dropped"] += not decision.kept
    counts["bad"] += bool(decision.problem)
