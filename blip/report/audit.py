"""What CapFilt did to the web pool: outcomes, score histograms, and samples to look at.

    audit = read_audit(Path("data/datasets/bootstrapped"), Path("data/datasets/web"), seed=7)
    audit.count("rescued", right=False)

The audit is read a batch at a time. Where the pool's truth is known (`truth_*` columns of the web metadata) it is
joined by key; it was not known to the filter.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from blip.data.metadata import METADATA
from blip.data.pairs import PairsDataset
from blip.errors import BlipError

AUDIT = "audit.parquet"
COLUMNS = (
    "key",
    "web_texts",
    "web_score",
    "web_itc",
    "web_kept",
    "synthetic_texts",
    "synthetic_score",
    "synthetic_kept",
)
TRUTH = ("truth_matched", "truth_caption_true", "truth_noise")
BINS = 25
RANGES = {"score": (0.0, 1.0), "itc": (-1.0, 1.0)}

Outcome = Literal["kept", "rescued", "dropped"]
OUTCOMES: dict[Outcome, str] = {
    "kept": "web text kept",
    "rescued": "web text dropped, synthetic caption kept",
    "dropped": "nothing kept, picture dropped",
}


@dataclass(frozen=True)
class Text:
    """A text about a picture, the filter's probability that it matches, and whether it was kept."""

    text: str
    origin: str
    score: float
    kept: bool


@dataclass(frozen=True)
class Decision:
    """One web picture: what was decided, and the truth where it is known."""

    key: str
    texts: tuple[Text, ...]
    outcome: Outcome
    right: bool | None
    label: str
    noise: str


@dataclass
class Audit:
    """Counts over the whole pool, and a few decisions of each kind.

    Attributes:
        outcomes: pictures by (outcome, whether the web text was right; None: not known).
        histograms: counts by bin of (score, texts), such as ("score", "web right"); the scores' RANGES.
        noise: wrong web texts by kind of noise, as (all, kept).
        both: pictures whose web text and synthetic caption were both kept.
        chosen: decisions to show, by (outcome, right).
    """

    outcomes: Counter[tuple[Outcome, bool | None]] = field(default_factory=Counter)
    histograms: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    noise: dict[str, list[int]] = field(default_factory=dict)
    both: int = 0
    synthetic: int = 0
    synthetic_kept: int = 0
    chosen: dict[tuple[Outcome, bool | None], list[Decision]] = field(default_factory=dict)

    @property
    def pictures(self) -> int:
        """All pictures of the pool that were judged."""
        return self.outcomes.total()

    @property
    def knows_truth(self) -> bool:
        """Whether the pool says which of its texts are right."""
        return any(right is not None for _, right in self.outcomes)

    def count(self, outcome: Outcome | None = None, right: bool | None = None) -> int:
        """Pictures with an outcome (None: any) whose web text is right or wrong (None: either)."""
        return sum(
            number
            for (what, truth), number in self.outcomes.items()
            if outcome in (None, what) and right in (None, truth)
        )

    def wrong_share(self, outcome: Outcome | None = None) -> float:
        """The share of wrong texts among the web texts with an outcome; of all of them before filtering."""
        return self.count(outcome, right=False) / max(1, self.count(outcome))


def read_audit(bootstrapped: Path, web: Path, *, seed: int, shown: int = 6) -> Audit | None:
    """Count and choose; None when capfilt has not run.

    Args:
        seed: of the choice: the `shown` pictures of each kind whose hashes with it are the smallest.

    Raises:
        BlipError: the audit is not what capfilt writes.
    """
    if not (bootstrapped / AUDIT).is_file():
        return None
    audit = Audit()
    truth = _read_truth(web)
    for row in _rows(bootstrapped / AUDIT):
        decision = _decide(row, truth.get(row["key"], {}))
        _count(audit, row, decision)
        _choose(audit, decision, seed, shown)
    return audit


def pictures(web: Path, keys: frozenset[str]) -> dict[str, bytes]:
    """The encoded pictures of some samples; only the shards that hold one are read."""
    if not keys or not (web / METADATA).is_file():
        return {}
    dataset = PairsDataset.open(web)
    table = dataset.metadata(["key", "shard"])
    shards = {
        shard
        for key, shard in zip(table["key"].to_pylist(), table["shard"].to_pylist(), strict=True)
        if key in keys
    }
    return {
        sample.key: sample.media
        for shard in dataset.manifest.shards
        if shard.url in shards
        for sample in dataset.shard_samples(shard)
        if sample.key in keys
    }


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        if missing := sorted(set(COLUMNS) - set(file.schema_arrow.names)):
            raise BlipError(f"{path} has no column {', '.join(missing)}; run `dvc repro --force capfilt`")
        for batch in file.iter_batches(columns=list(COLUMNS)):
            yield from batch.to_pylist()


def _read_truth(web: Path) -> dict[str, dict[str, Any]]:
    path = web / METADATA
    if not path.is_file():
        return {}
    columns = [name for name in TRUTH if name in pq.read_schema(path).names]
    if "truth_matched" not in columns:
        return {}
    return {row["key"]: row for row in pq.read_table(path, columns=["key", *columns]).to_pylist()}


def _decide(row: dict[str, Any], truth: dict[str, Any]) -> Decision:
    texts = tuple(
        Text(text, origin, score, kept)
        for origin in ("web", "synthetic")
        for text, score, kept in zip(
            *(row[f"{origin}_{what}"] for what in ("texts", "score", "kept")), strict=True
        )
    )
    kept = {text.origin for text in texts if text.kept}
    outcome: Outcome = "kept" if "web" in kept else "rescued" if kept else "dropped"
    matched = truth.get("truth_matched")
    return Decision(
        row["key"],
        texts,
        outcome,
        None if matched is None else bool(int(matched)),
        str(truth.get("truth_caption_true") or ""),
        str(truth.get("truth_noise") or ""),
    )


def _count(audit: Audit, row: dict[str, Any], decision: Decision) -> None:
    kept = {text.origin for text in decision.texts if text.kept}
    audit.outcomes[decision.outcome, decision.right] += 1
    audit.synthetic += len(row["synthetic_kept"])
    audit.synthetic_kept += sum(row["synthetic_kept"])
    audit.both += kept == {"web", "synthetic"}
    truth = {True: "web right", False: "web wrong", None: "web"}[decision.right]
    scores = [("score", truth, score) for score in row["web_score"]]
    scores += [("itc", truth, cosine) for cosine in row["web_itc"]]
    scores += [("score", "synthetic", score) for score in row["synthetic_score"]]
    for score, texts, value in scores:
        low, high = RANGES[score]
        place = int(BINS * (value - low) / (high - low))
        bins = audit.histograms.setdefault((score, texts), [0] * BINS)
        bins[min(BINS - 1, max(0, place))] += 1
    if decision.right is False and decision.noise:
        entry = audit.noise.setdefault(decision.noise, [0, 0])
        entry[0] += 1
        entry[1] += "web" in kept


def _choose(audit: Audit, decision: Decision, seed: int, shown: int) -> None:
    chosen = audit.chosen.setdefault((decision.outcome, decision.right), [])
    chosen.append(decision)
    if len(chosen) > shown:
        chosen.sort(key=lambda one: blake2b(f"{seed} {one.key}".encode(), digest_size=8).digest())
        chosen.pop()
