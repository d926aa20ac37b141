"""What CapFilt did to the web pool: outcomes, reasons, sources, score histograms, and samples to look at.

    audit = read_audit(Path("data/datasets/bootstrapped"), Path("data/datasets/web"), seed=7)
    audit.count("replaced", right=False)

The audit is read a batch at a time beside the metadata of the pool, which says where each sample is from and, for some
pools, whether its text is right. Workers count the batches of a large one.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from blip.data.jobs import HERE, open_pool, run_in_order
from blip.data.parquet import read_batches
from blip.errors import BlipError
from blip.report.choice import Choice, lot
from blip.report.decision import Decision, Outcome, decide, log_odds
from blip.report.pool import Pool
from blip.report.sources import Sources

AUDIT = "audit.parquet"
COLUMNS = (
    "key",
    "web_texts",
    "web_score",
    "web_itc",
    "web_neighbours",
    "web_likelihood",
    "web_reason",
    "synthetic_texts",
    "synthetic_score",
    "synthetic_neighbours",
    "synthetic_likelihood",
    "synthetic_reason",
    "reason",
)
BINS = 400  # fine ones: what is drawn is groups of them, over the range that has any
RANGES = {"score": (-14.0, 14.0), "itc": (-1.0, 1.0)}  # log-odds of the probability; cosine
SHOWN = 6
ALONE = 500_000  # rows that one process has counted sooner than workers have begun

Group = tuple[Outcome, bool | None]


@dataclass
class Audit:
    """Counts over the whole pool, and a few decisions of each kind.

    Attributes:
        outcomes: pictures by (outcome, whether the web text was right; None: not known).
        texts: texts by (origin, why they were dropped; "": they were kept).
        once: kept texts by origin, none twice for a picture: what the dataset has of the pool.
        reasons: dropped pictures by the reason.
        histograms: counts by bin of (score, texts), such as ("score", "web right"); the scores' RANGES.
        noise: wrong web texts by kind of noise, as (all, kept).
        both: pictures that have a web text and, with other words, a synthetic caption.
        sources: what was kept of each source; `told_by` says how the source is known ("": it is not).
        chosen: decisions to show, by (outcome, right).
        sample: decisions to show, of the whole pool.
    """

    outcomes: Counter[Group] = field(default_factory=Counter)
    texts: Counter[tuple[str, str]] = field(default_factory=Counter)
    once: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    histograms: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    noise: dict[str, list[int]] = field(default_factory=dict)
    both: int = 0
    sources: Sources = field(default_factory=Sources)
    told_by: str = ""
    chosen: dict[Group, list[Decision]] = field(default_factory=dict)
    sample: list[Decision] = field(default_factory=list)

    @property
    def pictures(self) -> int:
        """All pictures of the pool that were judged."""
        return self.outcomes.total()

    @property
    def knows_truth(self) -> bool:
        """Whether the pool says of any of its texts whether it is right."""
        return any(right is not None for _, right in self.outcomes)

    def count(self, outcome: Outcome | None = None, right: bool | None = None) -> int:
        """Pictures with an outcome (None: any) whose web text is right or wrong (None: either)."""
        return sum(
            number
            for (what, truth), number in self.outcomes.items()
            if outcome in (None, what) and right in (None, truth)
        )

    def known(self, outcome: Outcome | None = None) -> int:
        """Pictures with an outcome (None: any) of whose web text is known whether it is right."""
        return self.count(outcome, right=True) + self.count(outcome, right=False)

    def wrong_share(self, outcome: Outcome | None = None) -> float | None:
        """The share of wrong texts among the web texts with an outcome (None: before filtering), as far as is known.

        None where nothing is known of any.
        """
        known = self.known(outcome)
        return self.count(outcome, right=False) / known if known else None

    def judged(self, origin: str) -> int:
        """All texts of an origin."""
        return sum(number for (of, _), number in self.texts.items() if of == origin)

    def kept(self, origin: str) -> int:
        """The texts of an origin that were kept."""
        return self.texts[origin, ""]

    @property
    def repeated(self) -> int:
        """Kept texts that say what another kept one of their picture says."""
        return sum(number for (_, reason), number in self.texts.items() if not reason) - self.once.total()

    @property
    def text_reasons(self) -> list[str]:
        """The reasons for which texts were dropped, the commonest first."""
        totals: Counter[str] = Counter()
        for (_, reason), number in self.texts.items():
            totals[reason] += number if reason else 0
        return [reason for reason, number in totals.most_common() if number]

    def add(self, other: "Audit") -> None:
        """Add the counts over further pictures."""
        self.outcomes.update(other.outcomes)
        self.texts.update(other.texts)
        self.once.update(other.once)
        self.reasons.update(other.reasons)
        self.both += other.both
        self.sources.add(other.sources)
        for scores, counts in other.histograms.items():
            _add_to(self.histograms.setdefault(scores, [0] * BINS), counts)
        for noise, counts in other.noise.items():
            _add_to(self.noise.setdefault(noise, [0, 0]), counts)


def _add_to(total: list[int], counts: list[int]) -> None:
    total[:] = map(int.__add__, total, counts)


def read_audit(
    bootstrapped: Path, web: Path, *, seed: int, shown: int = SHOWN, by: str | None = None
) -> Audit | None:
    """Count and choose; None when capfilt has not run.

    Args:
        seed: of the choice: the `shown` pictures of each kind whose hashes with it are the smallest.
        by: the column of the pool's metadata that tells the sources; what the pool knows of them if None.

    Raises:
        BlipError: the audit is not what capfilt writes, or of another pool.
    """
    if not (bootstrapped / AUDIT).is_file():
        return None
    path, pool = bootstrapped / AUDIT, Pool.open(web, by)
    found = _Found(shown, Audit(told_by=pool.naming.words if pool.naming else ""))
    parts = _parts(path, pool, seed, shown)
    few = pq.read_metadata(path).num_rows <= ALONE
    with nullcontext(HERE) if few else open_pool() as workers:
        for part in run_in_order(workers, _look_at, parts):  # names stand in the order in which they are met
            found.add(part)
    return found.audit_with_choice()


@dataclass(frozen=True)
class _Part:
    """Some rows of the audit, and those of the pool's metadata of the same samples."""

    rows: pa.RecordBatch
    beside: list[pa.RecordBatch]
    pool: Pool
    seed: int
    shown: int


class _Found:
    """The counts over some pictures, and those chosen among them."""

    def __init__(self, shown: int, audit: Audit) -> None:
        self._shown, self._audit = shown, audit
        self._groups: dict[Group, Choice] = {}
        self._sample = Choice(shown)

    def count(self, row: dict[str, Any], decision: Decision, number: int) -> None:
        """Add a picture, which has drawn this number."""
        _count(self._audit, row, decision)
        self._group((decision.outcome, decision.known.right)).offer(number, decision)
        self._sample.offer(number, decision)

    def add(self, other: "_Found") -> None:
        """Add further pictures."""
        self._audit.add(other._audit)
        for group, choice in other._groups.items():
            self._group(group).add(choice)
        self._sample.add(other._sample)

    def audit_with_choice(self) -> Audit:
        """All of it."""
        self._audit.chosen = {group: choice.decisions for group, choice in self._groups.items()}
        self._audit.sample = self._sample.decisions
        return self._audit

    def _group(self, group: Group) -> Choice:
        return self._groups.setdefault(group, Choice(self._shown))


def _parts(path: Path, pool: Pool, seed: int, shown: int) -> Iterator[_Part]:
    walk = pool.walk()
    for rows in _batches(path):
        yield _Part(rows, walk.beside(rows["key"]), pool, seed, shown)


def _look_at(part: _Part) -> _Found:
    found = _Found(part.shown, Audit())
    known = (part.pool.known(row) for rows in part.beside for row in rows.to_pylist())
    for row, what in zip(part.rows.to_pylist(), known, strict=True):
        found.count(row, decide(row, what), lot(part.seed, row["key"]))
    return found


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    if missing := sorted(set(COLUMNS) - set(pq.read_schema(path).names)):
        raise BlipError(
            f"{path} has no column {', '.join(missing)}, so another version wrote it; "
            "bootstrap the dataset again (`blip capfilt`, `dvc repro --force capfilt`)"
        )
    return read_batches(path, COLUMNS)


def _count(audit: Audit, row: dict[str, Any], decision: Decision) -> None:
    known = decision.known
    audit.outcomes[decision.outcome, known.right] += 1
    audit.texts.update((text.origin, text.reason) for text in decision.texts)
    kept = [text.origin for text in decision.kept]
    audit.once.update(kept)
    audit.both += len(set(kept)) == 2
    if decision.outcome == "dropped":
        audit.reasons[decision.reason] += 1
    audit.sources.count(decision)
    _bin(audit, row, known.right)
    if known.right is False and known.noise:
        entry = audit.noise.setdefault(known.noise, [0, 0])
        entry[0] += 1
        entry[1] += decision.outcome == "kept"


def _bin(audit: Audit, row: dict[str, Any], right: bool | None) -> None:
    web = {True: "web right", False: "web wrong", None: "web"}[right]
    scores = [("score", web, log_odds(score)) for score in row["web_score"]]
    scores += [("itc", web, cosine) for cosine in row["web_itc"]]
    scores += [("score", "synthetic", log_odds(score)) for score in row["synthetic_score"]]
    for score, texts, value in scores:
        audit.histograms.setdefault((score, texts), [0] * BINS)[bin_of(score, value)] += 1


def bin_of(score: str, value: float) -> int:
    """The histogram's bin of a score; the first and the last have what is beyond, too."""
    low, high = RANGES[score]
    return min(BINS - 1, max(0, int(BINS * (value - low) / (high - low))))
