"""A sample whose picture cannot be read gives its place to the next one of its shard, until there are too many.

What takes the place depends on the sample alone, not on who reads it, beside what, or when: a run that meets such
samples is repeated and resumed bit for bit, as any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from blip.data.sample import Sample
from blip.data.selection import Selection
from blip.data.stream import Place
from blip.errors import BlipError

FEW = 10
ONE_IN = 1000


@dataclass(frozen=True)
class Unreadable:
    """A sample without a picture that can be decoded, and why it cannot."""

    shard: Path
    key: str
    reason: str


class Replacements:
    """What stands in for unreadable samples; more of these than `FEW`, and than 1 in `ONE_IN`, are refused."""

    def __init__(self, selections: Sequence[Selection]) -> None:
        self._selections = selections
        self._lost: set[Place] = set()

    def replace(self, place: Place, key: str, reason: str, taken: int) -> tuple[Unreadable, Place, Sample]:
        """The next sample of the shard, behind its last the first; it may be unreadable too.

        Args:
            key: of the sample at `place`.
            reason: why that one cannot be read.
            taken: samples of this rank since it was started.

        Raises:
            BlipError: so many of them could not be read that the dataset has to be looked at, or none of the shard.
        """
        dataset, shard, number = place
        selection = self._selections[dataset]
        found, count = selection.dataset, selection.count(shard)
        lost = Unreadable(found.path / found.manifest.shards[shard].url, key, reason)
        self._lost.add(place)
        many = len(self._lost) > max(FEW, taken / ONE_IN)
        if many or count == sum(one[:2] == place[:2] for one in self._lost):
            raise BlipError(
                f"shard {lost.shard}, sample {key}: {reason}; it is number {len(self._lost)} of {taken:,} samples that "
                f"cannot be read, {f'more than {FEW} and than 1 in {ONE_IN:,}' if many else 'all of the shard'}. "
                f"`blip validate {found.path}` says which shards are damaged: remove {found.path} and make it again"
            )
        number = (number + 1) % count
        return lost, (dataset, shard, number), next(islice(selection.samples(shard), number, None))
