"""Bootstrap a pairs dataset: caption every web image, judge every text, keep what matches, write down why.

    with open_pool() as pool:
        tally = bootstrap(Order(web, human, models, settings, seed=0), Path("cleaned"), pool)

Shard by shard (`blip.capfilt.shard`), on as many workers as the pool has. A run that was ended goes on where it
was and writes what an undisturbed one writes. BLIP paper, section 3.3.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blip.atomic import write_json
from blip.capfilt.calibration import measure, threshold_for_share
from blip.capfilt.check import check_models
from blip.capfilt.decision import SCHEMA
from blip.capfilt.embedding import embed_pool
from blip.capfilt.inputs import Order, Pairs
from blip.capfilt.judge import Jury
from blip.capfilt.jury import forget_models, jury_of
from blip.capfilt.shard import AUDIT, ShardJob, Tally, Thresholds, bootstrap_shard
from blip.config import Wish
from blip.data.jobs import HERE, Pool, run_jobs
from blip.data.pairs import PairsDataset
from blip.data.parquet import read_rows
from blip.data.part import PARTS, assemble, finished, finished_parts
from blip.data.partial import begin, complete, discard, join
from blip.errors import BlipError

AUDIT_FILE = f"{AUDIT}.parquet"
NEIGHBOURS, THRESHOLDS = "neighbours.safetensors", "thresholds.json"  # while it grows


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes of a launcher this one is: each does every `world`-th shard."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of_environment(cls) -> "Ranks":
        """As the launcher has set RANK and WORLD_SIZE; alone without one."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


ALONE = Ranks()


def bootstrap(order: Order, target: Path, pool: Pool = HERE, ranks: Ranks = ALONE) -> Tally:
    """Write the bootstrapped dataset with its audit to `target`; human pairs pass through.

    Returns:
        What became of the images and texts; of several ranks the first says so, the others only of their own.

    Raises:
        BlipError: `target` exists or another job makes it, there is no web sample to work on, a model cannot be used
            for this, or the embeddings are to decide and there is no human text to compare with.
    """
    _check_free(target)
    if not len(PairsDataset.open(order.web.dataset)):
        raise BlipError(f"{order.web.dataset} has no sample to caption; is it a dataset of web pairs?")
    check_models(order.models)
    _check_apart(order)
    first = ranks.rank == 0
    if first:
        work = begin(target, order.identity(), ranks.world)
        _check_free(target, work)  # another process may have made it while the models were looked at
        _prepare(work, order, pool)
    else:
        work = join(target, order.identity(), ranks.rank, ranks.world)
    thresholds = _agreed(work)
    if pool.executor:
        forget_models()
    shards = order.shards()
    mine = range(ranks.rank, shards, ranks.world)
    total = _work(work, _jobs(work, order, thresholds), mine, pool)
    if not first:
        return total
    _wait_for(work, shards)
    _finish(work, target, order, thresholds)
    return count(target / AUDIT_FILE)


def _check_free(target: Path, work: Path | None = None) -> None:
    if target.exists():
        if work:
            discard(work)
        raise BlipError(f"{target} exists already; name another destination, or remove it first")


def _check_apart(order: Order) -> None:
    """One dataset is made of both, so their keys must differ; said before anything is captioned."""
    if order.human is None:
        return
    shared = len(np.intersect1d(order.web.key_ids(), order.human.key_ids()))
    if shared:
        raise BlipError(
            f"{order.web.dataset} and {order.human.dataset} have {shared:,} sample key(s) in common, as numbered rows "
            "of two files have. Ingest one of them again under another file name, or together with a second source: "
            "each key then begins with its source's name"
        )


def _prepare(work: Path, order: Order, pool: Pool) -> None:
    """What all shards are decided by, written once: similar pictures to ask, and the thresholds."""
    if (work / THRESHOLDS).is_file():
        return
    settings, near = order.settings, _neighbours(work, order)
    try:
        if near and not near.is_file():
            embed_pool(order.web, order.models, settings.batch_size, near, pool)
        cut = settings.threshold
        if isinstance(cut, Wish):
            jury = jury_of(order.models, settings, order.human, near)
            cut = find_threshold(cut, settings.noise, jury, order.web, order.held_out, order.seed)
    except BlipError:
        discard(work)
        raise
    given = settings.synthetic_threshold
    write_json(work / THRESHOLDS, Thresholds(cut, cut if given is None else given)._asdict())


def _neighbours(work: Path, order: Order) -> Path | None:
    """The pool as the filters embed it, where similar pictures have a say."""
    return work / NEIGHBOURS if order.settings.neighbours else None


def _agreed(work: Path) -> Thresholds:
    """The thresholds that the first rank has found, once they are there; the launcher ends this one if that fails."""
    while not (work / THRESHOLDS).is_file():
        time.sleep(0.1)
    return Thresholds(**json.loads((work / THRESHOLDS).read_text(encoding="utf-8")))


def find_threshold(
    wish: Wish, noise: float, jury: Jury, web: Pairs, held_out: Pairs | None, seed: int
) -> float:
    """The threshold with which a jury gives what is wished for, with a share `noise` of the texts assumed wrong.

    Raises:
        BlipError: it cannot be reached, or there are no held-out pairs to measure it on.
    """
    if wish.keep is not None:
        return threshold_for_share(jury, web, wish.keep)
    if held_out is None or wish.precision is None:
        raise BlipError("a threshold for a precision is measured on held-out human pairs; name their dataset")
    return measure(jury, held_out, seed).threshold_for(wish.precision, noise)


def _work(work: Path, jobs: Iterator[ShardJob], mine: range, pool: Pool) -> Tally:
    """Do those of the jobs that are mine and not finished; each is drawn when it is its turn."""
    done = frozenset(finished(work))
    waiting = (job for job in jobs if job.number in mine and job.number not in done)
    before = len(done.intersection(mine))
    if before:
        print(f"capfilt  {before:,} of {len(mine):,} shards are finished already", flush=True)
    total = Tally()
    for number, tally in enumerate(run_jobs(pool, bootstrap_shard, waiting), before + 1):
        total += tally
        _say(number, len(mine), total)
    return total


def _wait_for(work: Path, parts: int) -> None:
    """Until the other ranks are ready; the launcher ends this one if another fails."""
    while finished_parts(work) < parts:
        time.sleep(1)


def count(audit: Path) -> Tally:
    """Images and texts of an audit, and how many of them were kept; a batch of rows is in memory."""
    total = Tally()
    for row in read_rows(audit, ["web_kept", "synthetic_kept", "reason"]):
        web, synthetic = row["web_kept"], row["synthetic_kept"]
        total += Tally(1, len(web), sum(web), len(synthetic), sum(synthetic), row["reason"] != "")
    return total


def _jobs(work: Path, order: Order, thresholds: Thresholds) -> Iterator[ShardJob]:
    """The web shards, then the human ones."""
    near = _neighbours(work, order)
    shards = ((source, *found) for source in order.sides for found in source.shards())
    for number, (source, shard, hashes) in enumerate(shards):
        yield ShardJob(work, number, order, source, shard, hashes, thresholds, near)


def _finish(work: Path, target: Path, order: Order, thresholds: Thresholds) -> None:
    """Make one dataset of all parts, which says how it was made."""
    cut = {
        "threshold": thresholds.web,
        "synthetic_threshold": thresholds.synthetic,
        "asked": order.asked,
    }
    assemble(work, order.digests(), order.parameters() | cut, {AUDIT: SCHEMA})
    complete(work, target, PARTS, NEIGHBOURS, THRESHOLDS)


def _say(shards: int, of: int, total: Tally) -> None:
    print(
        f"capfilt  shard {shards:,}/{of:,}  {total.images:,} images  "
        f"web kept {total.web_kept / max(total.web, 1):.0%}  "
        f"synthetic kept {total.synthetic_kept / max(total.synthetic, 1):.0%}  dropped {total.dropped:,}",
        flush=True,
    )
