"""What CapFilt kept of each source of the pool: the largest ones by name, the others as one.

sources = Sources()
sources.count(decision)
for source in sources.largest(20): source.name, source.web_share
"""

import re
from dataclasses import dataclass, fields
from hashlib import sha256
from heapq import nlargest

from blip.report.decision import Decision

LARGEST = 20
LONGEST = 80  # characters of a source's name in a metric's
HELD = 100_000  # sources counted by name at once; hosts of the web are more
UNKNOWN = "not known"


@dataclass
class Source:
    """Pictures and texts of one source, and how many were kept."""

    name: str
    pictures: int = 0
    dropped: int = 0
    web: int = 0
    web_kept: int = 0
    synthetic: int = 0
    synthetic_kept: int = 0

    def count(self, decision: Decision) -> None:
        """Add one picture."""
        web, synthetic = decision.of("web"), decision.of("synthetic")
        self.pictures += 1
        self.dropped += decision.outcome == "dropped"
        self.web += len(web)
        self.web_kept += sum(text.kept for text in web)
        self.synthetic += len(synthetic)
        self.synthetic_kept += sum(text.kept for text in synthetic)

    def add(self, other: "Source") -> None:
        """Add all of another source; the name stays."""
        for field in fields(self)[1:]:
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    @property
    def web_share(self) -> float | None:
        """Of the web texts, how many were kept; None if there are none."""
        return self.web_kept / self.web if self.web else None

    @property
    def synthetic_share(self) -> float | None:
        """Of the synthetic captions, how many were kept; None if there are none."""
        return self.synthetic_kept / self.synthetic if self.synthetic else None

    @property
    def dropped_share(self) -> float:
        """Of the pictures, how many were dropped."""
        return self.dropped / max(1, self.pictures)


class Sources:
    """Counts by source. When there are more than `held`, the smaller half becomes one: its names are lost."""

    def __init__(self, held: int = HELD) -> None:
        self._held = held
        self._named: dict[str, Source] = {}
        self._others = Source("all others")

    def __len__(self) -> int:
        return len(self._named) + bool(self._others.pictures)

    def count(self, decision: Decision) -> None:
        """Add one picture to its source."""
        self._of(decision.known.source or UNKNOWN).count(decision)

    def add(self, other: "Sources") -> None:
        """Add all pictures that another one counted."""
        for source in other._named.values():
            self._of(source.name).add(source)
        self._others.add(other._others)

    def _of(self, name: str) -> Source:
        source = self._named.get(name)
        if source is None:
            if len(self._named) >= self._held:
                self._named = {large.name: large for large in self._cut(self._held // 2, self._others)}
            source = self._named[name] = Source(name)
        return source

    def largest(self, most: int = LARGEST) -> list[Source]:
        """The sources with the most pictures, largest first; behind them all others as one, if there are any."""
        others = Source(self._others.name)
        others.add(self._others)
        named = self._cut(most, others)
        if not self._others.pictures and (more := len(self._named) - len(named)):
            others.name = f"{more:,} others" if more > 1 else "1 other"
        return [*named, others] if others.pictures else named

    def figures(self, most: int = LARGEST) -> dict[str, float]:
        """The shares of the largest sources under names that MLflow takes; none where there is only one."""
        found: dict[str, float] = {}
        for source in self._cut(most, Source("")) if len(self) > 1 else ():
            name = _for_metric(source.name)
            shares = {
                "web_kept": source.web_share,
                "synthetic_kept": source.synthetic_share,
                "images_dropped": source.dropped_share,
            }
            found |= {f"capfilt.{what}.{name}": share for what, share in shares.items() if share is not None}
        return found

    def _cut(self, most: int, others: Source) -> list[Source]:
        """The sources with the most pictures; the rest is added to `others`."""
        ordered = nlargest(most, self._named.values(), key=lambda source: source.pictures)
        chosen = {source.name for source in ordered}
        for source in self._named.values():
            if source.name not in chosen:
                others.add(source)
        return ordered


def _for_metric(name: str) -> str:
    """A name that MLflow takes in a metric's, which may have 250 characters; a cut one ends in a digest of it all."""
    safe = re.sub(r"[^\w.-]+", "_", name)
    return safe if len(safe) <= LONGEST else f"{safe[:LONGEST]}_{sha256(name.encode()).hexdigest()[:8]}"
