"""Bootstrap a pairs dataset: caption every web image, judge every text, keep what matches, write down why.

    with open_pool() as pool:
        tally = bootstrap(web, human, Path("cleaned"), models, settings, seed=0, pool=pool)

Shard by shard (`blip.capfilt.shard`), on as many workers as the pool has. A run that was ended goes on where it
was and writes what an undisturbed one writes. BLIP paper, section 3.3.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from blip.atomic import write_json
from blip.capfilt.calibration import measure, threshold_for_share
from blip.capfilt.check import check_models
from blip.capfilt.decision import SCHEMA
from blip.capfilt.embedding import embed_pool
from blip.capfilt.judge import Jury
from blip.capfilt.shard import (
    AUDIT,
    Models,
    Pairs,
    ShardJob,
    Tally,
    Thresholds,
    bootstrap_shard,
    forget_models,
    jury_of,
)
from blip.config import CapFilt, Wish
from blip.data.jobs import HERE, Pool, run_jobs
from blip.data.pairs import PairsDataset, excluded_in
from blip.data.part import assemble, finished, finished_parts
from blip.data.partial import begin, complete, fingerprint, join
from blip.errors import BlipError

AUDIT_FILE = f"{AUDIT}.parquet"
NEIGHBOURS, THRESHOLDS = "neighbours.safetensors", "thresholds.json"  # while it grows
HOW = {
    "decoding",
    "captions_per_image",
    "top_p",
    "max_tokens",
    "min_tokens",
    "head",
    "views",
    "likelihood",
    "neighbours",
}  # captions are written and judged


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


def bootstrap(
    web: Pairs,
    human: Pairs | None,
    target: Path,
    models: Models,
    settings: CapFilt,
    seed: int = 0,
    pool: Pool = HERE,
    ranks: Ranks = ALONE,
    held_out: Pairs | None = None,
) -> Tally:
    """Write the bootstrapped dataset with its audit to `target`; human pairs pass through.

    Args:
        held_out: human pairs on which the threshold for a wished precision is measured.

    Returns:
        What became of the images and texts; of several ranks the first says so, the others only of their own.

    Raises:
        BlipError: `target` exists, there is no web sample to work on, a model cannot be used for this, or the
            embeddings are to decide and there is no human text to compare with.
    """
    if target.exists():
        raise BlipError(f"{target} exists already; name another destination, or remove it first")
    if not len(PairsDataset.open(web.dataset)):
        raise BlipError(f"{web.dataset} has no sample to caption; is it a dataset of web pairs?")
    check_models(models)
    plan = _plan(web, human, held_out, models, settings, seed)
    work = begin(target, plan) if ranks.rank == 0 else join(target, plan)
    if ranks.rank == 0:
        _prepare(work, web, human, held_out, models, settings, seed, pool)
    thresholds = _agreed(work)
    if pool.executor:
        forget_models()
    jobs = _jobs(work, web, human, models, settings, thresholds, seed)
    shards = sum(len(PairsDataset.open(pairs.dataset).manifest.shards) for pairs in (web, human) if pairs)
    mine = range(ranks.rank, shards, ranks.world)
    total = _work(work, jobs, mine, pool)
    if ranks.rank:
        return total
    _wait_for(work, shards)
    parents = [PairsDataset.open(pairs.dataset).digest for pairs in (web, human) if pairs]
    how = settings.model_dump(include=HOW) | models.arithmetic
    cut = {
        "threshold": thresholds.web,
        "synthetic_threshold": thresholds.synthetic,
        "asked": _asked(settings),
    }
    parameters = how | cut | {"seed": seed}
    assemble(work, parents, parameters, {AUDIT: SCHEMA})
    for name in (NEIGHBOURS, THRESHOLDS):
        (work / name).unlink(missing_ok=True)
    complete(work, target)
    return count(target / AUDIT_FILE)


def _prepare(
    work: Path,
    web: Pairs,
    human: Pairs | None,
    held_out: Pairs | None,
    models: Models,
    settings: CapFilt,
    seed: int,
    pool: Pool,
) -> None:
    """What all shards are decided by, written once: similar pictures to ask, and the thresholds."""
    if (work / THRESHOLDS).is_file():
        return
    try:
        near = work / NEIGHBOURS if settings.neighbours else None
        if near and not near.is_file():
            embed_pool(web, models, settings.batch_size, near, pool)
        cut = settings.threshold
        if isinstance(cut, Wish):
            cut = find_threshold(
                cut, settings.noise, jury_of(models, settings, human, near), web, held_out, seed
            )
    except BlipError:
        shutil.rmtree(work)
        raise
    given = settings.synthetic_threshold
    write_json(work / THRESHOLDS, Thresholds(cut, cut if given is None else given)._asdict())


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


def _asked(settings: CapFilt) -> Any:
    """The threshold as the settings have it: a number, or a wish."""
    wish = settings.threshold
    return wish.model_dump(exclude_none=True) if isinstance(wish, Wish) else wish


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
    columns = ["web_kept", "synthetic_kept", "reason"]
    with pq.ParquetFile(audit) as file:
        for batch in file.iter_batches(columns=columns):
            for row in batch.to_pylist():
                web, synthetic = row["web_kept"], row["synthetic_kept"]
                total += Tally(1, len(web), sum(web), len(synthetic), sum(synthetic), row["reason"] != "")
    return total


def _jobs(
    work: Path,
    web: Pairs,
    human: Pairs | None,
    models: Models,
    settings: CapFilt,
    thresholds: Thresholds,
    seed: int,
) -> Iterator[ShardJob]:
    """The web shards, then the human ones."""
    near = work / NEIGHBOURS if settings.neighbours else None
    sides = [(pairs, pairs is not web) for pairs in (web, human) if pairs]
    shards = ((*found, is_human) for pairs, is_human in sides for found in pairs.shards())
    for number, (shard, hashes, is_human) in enumerate(shards):
        yield ShardJob(
            work, number, shard, hashes, web, human, models, settings, thresholds, seed, is_human, near
        )


def _plan(
    web: Pairs, human: Pairs | None, held_out: Pairs | None, models: Models, settings: CapFilt, seed: int
) -> dict[str, Any]:
    """Everything that the content depends on, and not who computes it."""
    measured = held_out if isinstance(settings.threshold, Wish) else None
    sides = {
        name: [PairsDataset.open(pairs.dataset).digest, _digest(excluded_in(pairs.excluded))]
        for name, pairs in (("web", web), ("human", human), ("held_out", measured))
        if pairs
    }
    paths = {"captioner": fingerprint(models.captioner), "filters": [*map(fingerprint, models.filters)]}
    how = settings.model_dump(include={*HOW, "batch_size", "synthetic_threshold", "noise"})
    return sides | paths | how | {"threshold": _asked(settings), "seed": seed} | models.arithmetic


def _digest(keys: frozenset[str]) -> str:
    """SHA-256 of a set of keys, which may be millions."""
    digest = sha256()
    for key in sorted(keys):
        digest.update(f"{key}\n".encode())
    return digest.hexdigest()


def _say(shards: int, of: int, total: Tally) -> None:
    print(
        f"capfilt  shard {shards:,}/{of:,}  {total.images:,} images  "
        f"web kept {total.web_kept / max(total.web, 1):.0%}  "
        f"synthetic kept {total.synthetic_kept / max(total.synthetic, 1):.0%}  dropped {total.dropped:,}",
        flush=True,
    )
