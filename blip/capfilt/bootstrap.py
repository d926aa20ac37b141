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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blip.atomic import write_json
from blip.capfilt.calibration import Measured, measure, threshold_for_share
from blip.capfilt.check import check_models
from blip.capfilt.decision import SCHEMA
from blip.capfilt.embedding import embed_pool
from blip.capfilt.inputs import Order, Pairs
from blip.capfilt.judge import Jury
from blip.capfilt.jury import forget_models, jury_of
from blip.capfilt.limit import Limit, bad_in
from blip.capfilt.shard import AUDIT, BAD_SHARD, ShardJob, Tally, Thresholds, bootstrap_shard
from blip.config import CapFilt, Wish
from blip.data.jobs import HERE, Pool, run_jobs
from blip.data.pairs import SET_ASIDE, PairsDataset
from blip.data.parquet import read_batches
from blip.data.part import PARTS, assemble, finished, finished_numbers
from blip.data.partial import Watch, begin, complete, discard, is_growing, join
from blip.errors import BlipError
from blip.training.heartbeat import UNHEARD, Heartbeat
from blip.training.launch.store import rank_and_world

AUDIT_FILE = f"{AUDIT}.parquet"
NEIGHBOURS, THRESHOLDS = "pool.safetensors", "thresholds.json"  # while it grows


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes of a launcher this one is: each does every `world`-th shard."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of_environment(cls) -> "Ranks":
        """As the launcher has set RANK and WORLD_SIZE; alone without others."""
        return cls(*rank_and_world())

    @staticmethod
    def device(chosen: str) -> str:
        """The device chosen; where a launcher runs several ranks, the GPU that it gives this one.

        That is the current one then: pinned memory and streams are of the current device if nothing else is said.
        """
        rank = os.environ.get("LOCAL_RANK")
        if chosen != "cuda" or not rank:
            return chosen
        torch.cuda.set_device(int(rank))
        return f"cuda:{rank}"


ALONE = Ranks()


def bootstrap(order: Order, target: Path, pool: Pool = HERE, ranks: Ranks = ALONE) -> Tally:
    """Write the bootstrapped dataset with its audit to `target`; human pairs pass through.

    Returns:
        What became of the images and texts; of several ranks the first says so, the others only of their own.

    Raises:
        BlipError: `target` exists or another job makes it, there is no web sample to work on, a model cannot be used
            for this, or the embeddings are to decide and there is no human text to compare with.
    """
    first = ranks.rank == 0
    if first:
        _check_free(target)
    elif target.exists():
        return Tally()  # the others have finished it
    order = order.absolute()
    if not len(PairsDataset.open(order.web.dataset)):
        raise BlipError(f"{order.web.dataset} has no sample to caption; is it a dataset of web pairs?")
    check_models(order.models)
    with Heartbeat.of_this_process() as beat:
        if not first:
            return _help(order, target, pool, ranks, beat)
        return _lead(order, target, pool, ranks, beat)


def _lead(order: Order, target: Path, pool: Pool, ranks: Ranks, beat: Heartbeat) -> Tally:
    """The share of the first rank: its shards, what all others wait for, and the dataset made of all parts."""
    plan = order.identity()
    work = begin(target, plan, ranks.world)
    _check_free(target, work)  # another process may have made it while the models were looked at
    thresholds = _prepare(work, order, pool, beat)
    _work(work, order, thresholds, ranks, pool, beat)
    _wait_for(work, order.shards(), ranks.world, beat)
    Limit.of(order, work).check(bad_in(receipt.quarantined for receipt in finished(work).values()))
    return _finish(work, target, order, plan, beat)


def _help(order: Order, target: Path, pool: Pool, ranks: Ranks, beat: Heartbeat) -> Tally:
    """The share of another rank than the first; there is none where the dataset gets to its place without it."""
    work = join(target, order.identity(), ranks.rank, ranks.world)
    thresholds = _agreed(work, target, beat) if work else None
    return _work(work, order, thresholds, ranks, pool, beat) if work and thresholds else Tally()


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


def _prepare(work: Path, order: Order, pool: Pool, beat: Heartbeat) -> Thresholds:
    """What all shards are decided by, written once: similar pictures to ask, and the thresholds.

    With them stands how well this tells held-out pairs apart, where there are any.
    """
    if found := _thresholds_in(work):
        return found
    settings, near = order.settings, _neighbours(work, order)
    try:
        _check_apart(order)
        if near and not near.is_file():
            embed_pool(order.web, order.models, settings.batch_size, near, pool, beat)
        found = _cut(order, near, beat)
    except BlipError:
        discard(work)
        raise
    write_json(work / THRESHOLDS, found)
    return Thresholds.of(found)


def _cut(order: Order, near: Path | None, beat: Heartbeat) -> dict[str, Any]:
    """The thresholds, as asked for and as numbers, and what was measured on the held-out pairs."""
    settings, cut = order.settings, order.settings.threshold
    measured = None
    if order.held_out or isinstance(cut, Wish):
        jury = jury_of(order.models, settings, order.human, near)
        measured = measure(jury, order.held_out, order.seed, beat=beat) if order.held_out else None
        if isinstance(cut, Wish):
            cut = find_threshold(cut, settings.noise, jury, order.web, measured, beat)
            _tell(cut, settings, measured)
    given = settings.synthetic_threshold
    found = {"threshold": cut, "synthetic_threshold": cut if given is None else given, "asked": order.asked}
    if measured is None:
        return found
    return found | {"validation_auc": measured.roc_auc, "validation_accuracy": measured.accuracy}


def _tell(cut: float, settings: CapFilt, measured: Measured | None) -> None:
    """What a threshold that was looked for gives, and how sure that is."""
    said = f"capfilt  web texts are kept from {cut:.4g} on"
    if measured:
        low, high = measured.interval(cut, settings.noise)
        said += (
            f": of them {measured.at(cut, settings.noise).precision:.1%} match ({low:.1%} to {high:.1%}, by "
            f"{len(measured.matched):,} held-out pairs) where {settings.noise:.0%} of all are wrong"
        )
    print(said, flush=True)
    if settings.neighbours and settings.synthetic_threshold is None:
        print(
            "capfilt  note: captions that are written here are judged without neighbours, so that share is not theirs: "
            "give them a synthetic_threshold, as 0.5",
            flush=True,
        )


def _neighbours(work: Path, order: Order) -> Path | None:
    """The pool as the filters embed it, where similar pictures have a say."""
    return work / NEIGHBOURS if order.settings.neighbours else None


def _agreed(work: Path, target: Path, beat: Heartbeat) -> Thresholds | None:
    """The thresholds that the first rank has found, once they are there; None where it has finished without this one.

    Raises:
        BlipError: it is gone.
    """
    watch = Watch(work, 0)
    while (thresholds := _thresholds_in(work)) is None:
        if target.exists():
            return None
        if watch.is_gone():
            raise BlipError(
                f"{work}: the first rank is gone and has left no thresholds; see what it said, and run the same again"
            )
        beat.mark("vote")
        time.sleep(0.1)
    return thresholds


def _thresholds_in(work: Path) -> Thresholds | None:
    try:
        return Thresholds.of(_found(work))
    except FileNotFoundError:
        return None


def _found(work: Path) -> dict[str, Any]:
    return json.loads((work / THRESHOLDS).read_text(encoding="utf-8"))


def find_threshold(
    wish: Wish, noise: float, jury: Jury, web: Pairs, measured: Measured | None, beat: Heartbeat = UNHEARD
) -> float:
    """The threshold with which a jury gives what is wished for, with a share `noise` of the texts assumed wrong.

    Raises:
        BlipError: it cannot be reached, or there are no held-out pairs to measure it on.
    """
    if wish.keep is not None:
        return threshold_for_share(jury, web, wish.keep, beat=beat)
    if measured is None or wish.precision is None:
        raise BlipError("a threshold for a precision is measured on held-out human pairs; name their dataset")
    return measured.threshold_for(wish.precision, noise)


def _work(
    work: Path, order: Order, thresholds: Thresholds, ranks: Ranks, pool: Pool, beat: Heartbeat
) -> Tally:
    """Do the shards of this rank that are not finished; each is drawn when it is its turn.

    The first rank also does again what was set aside as damaged, whoever did it: it may be mended by now.

    Raises:
        BlipError: too much of the pool cannot be used.
    """
    if pool.executor:
        forget_models()
    receipts = finished(work)
    if not is_growing(work):
        return Tally()  # the first rank has found all of it finished
    damaged = {n for n, receipt in receipts.items() if BAD_SHARD in receipt.quarantined and not ranks.rank}
    done, mine = receipts.keys() - damaged, range(ranks.rank, order.shards(), ranks.world)
    to_do = damaged.union(mine) - done
    total, limit = Tally(bad=bad_in(receipts[n].quarantined for n in done)), Limit.of(order, work)
    limit.check(total.bad)
    before = len(done.intersection(mine))
    if before:
        print(f"capfilt  {before:,} of {len(mine):,} shards are finished already", flush=True)
    beat.begin(before)
    waiting = (job for job in _jobs(work, order, thresholds) if job.number in to_do)
    do = partial(bootstrap_shard, beat=UNHEARD if pool.executor else beat)  # a worker has none to give
    for number, tally in enumerate(run_jobs(pool, do, waiting), before + 1):
        total += tally
        _say(number, before + len(to_do), total)
        limit.check(total.bad)
        beat.begin(number)
    return total


def _wait_for(work: Path, parts: int, world: int, beat: Heartbeat) -> None:
    """Until the other ranks are ready.

    Raises:
        BlipError: one is gone, and shards of its are not finished.
    """
    watches = [Watch(work, rank) for rank in range(world)]
    beat.begin(parts)  # farther than any rank that works, which is the one to name if it hangs
    while missing := set(range(parts)) - finished_numbers(work):
        for rank in sorted({number % world for number in missing}):
            if watches[rank].is_gone():
                raise BlipError(
                    f"rank {rank} of {world} is gone, and {sum(n % world == rank for n in missing):,} of its shards "
                    f"are not finished; what is finished waits in {work}: run the same again"
                )
        beat.mark("vote")
        time.sleep(1)


def count(dataset: Path) -> Tally:
    """Images and texts of a bootstrapped dataset, and what became of them; a batch of its audit is in memory."""
    total = Tally(bad=bad_in([PairsDataset.open(dataset).manifest.quarantined]))
    columns = ["web_kept", "synthetic_kept", "reason"]
    for batch in read_batches(dataset / AUDIT_FILE, columns):
        web, synthetic = (batch.column(name).flatten() for name in columns[:2])
        dropped = sum(reason != "" for reason in batch.column("reason").to_pylist())
        texts = (len(web), web.true_count, len(synthetic), synthetic.true_count)
        total += Tally(len(batch), *texts, dropped)
    return total


def _jobs(work: Path, order: Order, thresholds: Thresholds) -> Iterator[ShardJob]:
    """The web shards, then the human ones."""
    near = _neighbours(work, order)
    shards = ((source, *found) for source in order.sides for found in source.shards())
    for number, (source, shard, hashes) in enumerate(shards):
        yield ShardJob(work, number, order, source, shard, hashes, thresholds, near)


def _finish(work: Path, target: Path, order: Order, plan: dict[str, Any], beat: Heartbeat) -> Tally:
    """Make one dataset of all parts, which says what made it; but not by which code, or a comment made it another."""
    made_by = {name: value for name, value in plan.items() if name != "code"} | _found(work)
    if before := order.set_aside():
        made_by[SET_ASIDE] = before

    def going_on() -> None:
        beat.mark("finished")

    assemble(work, order.digests(), made_by, {AUDIT: SCHEMA}, going_on)
    total = count(work)  # before it is in its place: whoever waits for that waits for nothing more
    complete(work, target, PARTS, NEIGHBOURS, THRESHOLDS, on_file=going_on)
    return total


def _say(shards: int, of: int, total: Tally) -> None:
    print(
        f"capfilt  shard {shards:,}/{of:,}  {total.images:,} images  "
        f"web kept {total.web_kept / max(total.web, 1):.0%}  "
        f"synthetic kept {total.synthetic_kept / max(total.synthetic, 1):.0%}  dropped {total.dropped:,}"
        + (f"  bad {total.bad:,}" if total.bad else ""),
        flush=True,
    )
