"""The pool as its filters embed it, once and in one file, for every worker to look up similar pictures in.

    embed_pool(web, models, batch_size=64, target=work / "pool.safetensors", pool=pool)

A job is a shard; a batch never reaches over its end: the file is the same whoever does which.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from blip.atomic import atomic_path
from blip.capfilt.identity import LOOK, Identity
from blip.capfilt.inputs import Models, Pairs
from blip.capfilt.pictures import View, Views, ahead
from blip.data.jobs import HERE, Pool, run_jobs
from blip.data.manifest import Shard
from blip.data.pairs import Sample
from blip.data.text import clean_caption
from blip.errors import BlipError
from blip.model.checkpoints import write_weights
from blip.tasks.batches import batches
from blip.training.heartbeat import UNHEARD, Heartbeat

LIMIT = 20_000  # pictures: 40 MB a filter


@dataclass(frozen=True)
class Embedding:
    """A job: the first `take` samples of a shard that have a text."""

    number: int
    shard: Shard
    take: int
    web: Pairs
    models: Models
    batch_size: int


def embed_pool(
    web: Pairs, models: Models, batch_size: int, target: Path, pool: Pool = HERE, beat: Heartbeat = UNHEARD
) -> None:
    """Embed up to `LIMIT` pictures, spread over the shards, each with the first of its texts, by every filter."""
    shards, each = web.spread(LIMIT)
    jobs = (Embedding(n, shard, each, web, models, batch_size) for n, shard in enumerate(shards))
    do = partial(embed_shard, beat=UNHEARD if pool.executor else beat)  # a worker has none to give
    found = [made for _, made in sorted(run_jobs(pool, do, jobs), key=lambda one: one[0]) if made]
    names = found[0] if found else {}
    with atomic_path(target) as path:
        write_weights({name: torch.cat([made[name] for made in found]) for name in names}, path)


def embed_shard(job: Embedding, beat: Heartbeat) -> tuple[int, dict[str, Tensor]]:
    """The job's number with which pictures these are and their embeddings; with nothing where the shard is damaged."""
    torch.set_num_threads(job.models.threads)
    made: list[dict[str, Tensor]] = []
    views = {LOOK} | {View(job.models.open(path).image_size) for path in job.models.filters}
    try:
        for seen in beat.watched(ahead(_batches(job), views, job.models.decoders)):
            if seen.good:
                made.append(_embed(seen.good, seen.views, job.models))
    except BlipError:
        if not job.web.is_bad(job.shard):
            raise
        made = []  # the job that bootstraps the shard sets it aside
    return job.number, {name: torch.cat([one[name] for one in made]) for name in (made[0] if made else ())}


def _batches(job: Embedding) -> Iterator[list[Sample]]:
    samples = islice((sample for sample in job.web.samples(job.shard) if _text(sample)), job.take)
    return batches(samples, job.batch_size)


def _text(sample: Sample) -> str:
    return next(filter(None, (clean_caption(caption.text) for caption in sample.captions)), "")


def _embed(batch: Sequence[Sample], pictures: Views, models: Models) -> dict[str, Tensor]:
    texts = [_text(sample) for sample in batch]
    made = Identity.of((sample.key for sample in batch), pictures[LOOK]).tensors()
    for number, path in enumerate(models.filters):
        model = models.open(path)
        made[f"pictures.{number}"] = (
            model.embed_images(pictures[View(model.image_size)], len(batch)).float().cpu()
        )
        made[f"texts.{number}"] = model.embed_texts(texts).float().cpu()
    return made
