"""How much of a pool may be unusable: shards that are not what the manifest says, pictures that cannot be decoded.

limit = Limit.of(order, work)
limit.check(bad_in(receipt.quarantined for receipt in finished(work).values()))
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from blip.capfilt.decision import BAD_PICTURE
from blip.capfilt.inputs import Order
from blip.capfilt.shard import BAD_SHARD
from blip.data.part import finished_numbers, refusals
from blip.errors import BlipError

BAD = (BAD_SHARD, BAD_PICTURE)
EXAMPLES = 3


def bad_in(quarantined: Iterable[Mapping[str, int]]) -> int:
    """The samples that could not be used, of counts by reason."""
    return sum(counts.get(reason, 0) for counts in quarantined for reason in BAD)


@dataclass(frozen=True)
class Limit:
    """The share of the samples that may be bad, how many samples there are, and where the parts gather."""

    share: float
    samples: int
    work: Path

    @classmethod
    def of(cls, order: Order, work: Path) -> "Limit":
        """That of an order."""
        return cls(order.settings.max_bad_fraction, order.samples(), work)

    def check(self, bad: int) -> None:
        """Raises BlipError if so many bad samples are too many."""
        if bad <= self.share * self.samples:
            return
        raise BlipError(
            f"{bad:,} of {self.samples:,} samples cannot be used, more than capfilt.max_bad_fraction = {self.share} "
            "(--max-bad-fraction). Copy or ingest their dataset again, or raise the limit, and run the same again: "
            f"what is finished waits in {self.work}. The first:{self._examples()}"
        )

    def _examples(self) -> str:
        rows = refusals(self.work, sorted(finished_numbers(self.work)))
        bad = (row for row in rows if row["reason"] in BAD)
        return "".join(f"\n  {row['key']}: {row['reason']}, {row['detail']}" for row in islice(bad, EXAMPLES))
