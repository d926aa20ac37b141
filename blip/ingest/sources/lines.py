"""Texts beside pictures, each line of which is a caption: whether they were meant so.

lines = Lines()
lines.see(sample)      # each one
lines.tell(path)       # note: ... 1 of 4 with several lines look like one text that goes over lines
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from blip.data.sample import Sample
from blip.ingest.sources.notes import tell
from blip.ingest.sources.refused import Refused

ENDS = ".!?"  # what a sentence ends in


class Lines:
    """Counts the texts whose lines look like those of one text that was broken to fit a page."""

    def __init__(self) -> None:
        self._texts = self._broken = 0

    def see(self, item: Sample | Refused) -> None:
        """Note the captions of a picture."""
        if isinstance(item, Sample) and len(item.captions) > 1:
            self._texts += 1
            self._broken += is_one_text([caption.text for caption in item.captions])

    def tell(self, path: Path) -> None:
        """Say how many there are, if any."""
        if self._broken:
            tell(
                f"{path}: each line of a .txt is a caption of its own, and {self._broken:,} of {self._texts:,} with "
                "several lines look like one text that goes over lines; put such a text on one line"
            )


def is_one_text(lines: Sequence[str]) -> bool:
    """Whether sentences go over lines: one line breaks off, the next begins in lower case, and the last one ends."""
    pairs = pairwise(lines)
    goes_on = any(line[-1] not in ENDS and after[0].islower() for line, after in pairs)
    return goes_on and lines[0][0].isupper() and lines[-1][-1] in ENDS
