"""Samples whose pictures could not be read, written down as the loader meets them.

runs/pretrain/unreadable-3.jsonl        those of rank 3: place in the run, shard, key, reason
"""

import json
import sys
from pathlib import Path

from blip.data.loader import Batch

SAID = 3


class Unread:
    """Of one rank; the first few are told as well."""

    def __init__(self, name: str, folder: Path, rank: int) -> None:
        self.name, self.file = name, folder / f"unreadable-{rank}.jsonl"
        self.count = 0

    def note(self, batch: Batch) -> None:
        """Write down whose places other samples have in a batch."""
        for lost in batch.unreadable:
            self.count += 1
            row = {"epoch": batch.epoch, "batch": batch.index}
            row |= {"shard": str(lost.shard), "key": lost.key, "reason": lost.reason}
            with self.file.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
            if self.count <= SAID:
                more = f"; further ones are in {self.file}" if self.count == SAID else ""
                print(
                    f"{self.name}  warning: shard {lost.shard}, sample {lost.key}: {lost.reason}; the next sample has "
                    f"its place{more}",
                    file=sys.stderr,
                    flush=True,
                )
