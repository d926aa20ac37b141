"""The quarantine of a pairs dataset: what ingest refused, a row each, and the bytes that it kept.

for refused in read_quarantine(Path("data/datasets/web")):
    print(refused.key, refused.reason, refused.detail)
    if refused.payload:
        use(refused.payload.read())
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from blip.data.archive import read_members
from blip.data.metadata import METADATA
from blip.data.parquet import read_batches, read_rows
from blip.data.part import INDEX, QUARANTINE
from blip.errors import BlipError

__all__ = [
    "INDEX",
    "NEAR_DUPLICATE",
    "Payload",
    "Quarantined",
    "by_reason",
    "is_of_text",
    "kept_of",
    "read_quarantine",
]

NEAR_DUPLICATE = "near_duplicate"  # the reason of a training picture that looks like an evaluation picture
EMPTY, NO_ANSWER = "empty_caption", "no_answer"
BROKEN, CONTROL, TOO_LONG = "broken_text", "control_characters", "caption_too_long"
OF_TEXTS = frozenset({EMPTY, NO_ANSWER})
OF_EITHER = frozenset({BROKEN, CONTROL, TOO_LONG})  # of a text, where its sample is kept
COLUMNS = ["key", "reason", "detail", "file"]
_PLACE = re.compile(r"([0-9]+\.tar)/([A-Za-z0-9_\-]+)")
_FILE = re.compile(
    r"[0-9]+-[0-9]+-[A-Za-z0-9_\-]+"
)  # as datasets have it that are kept since before there were tars


@dataclass(frozen=True)
class Payload:
    """Where the bytes of a refused sample are: a member of a tar; or a file, where there is no member."""

    path: Path
    member: str = ""

    def read(self) -> bytes:
        """The bytes, in memory; each call reads a tar up to the member.

        Raises:
            BlipError: they are not there, or the tar is damaged.
        """
        if not self.path.is_file():
            raise BlipError(f"{self.path} is not there")
        if not self.member:
            return self.path.read_bytes()
        why = f"{self.path} has no {self.member}"
        for found in read_members(self.path):
            if found.problem and found.name in (self.member, self.path.name):
                why = found.detail
            elif found.name == self.member:
                return found.data
        raise BlipError(why)


@dataclass(frozen=True)
class Quarantined:
    """A sample or text that was left out: its reason code, what was found, and where its bytes are, if kept."""

    key: str
    reason: str
    detail: str
    payload: Payload | None


def read_quarantine(directory: Path) -> Iterator[Quarantined]:
    """Stream the quarantine of the dataset in `directory`, in the order of the index; no tar is opened.

    Raises:
        BlipError: the index is missing, cannot be read, or names a file that is not the quarantine's.
    """
    folder = directory / QUARANTINE
    for row in read_rows(folder / INDEX, COLUMNS):
        payload = _payload(folder, row["file"]) if row["file"] else None
        yield Quarantined(row["key"], row["reason"], row["detail"], payload)


def is_of_text(key: str, reason: str, kept: Collection[str]) -> bool:
    """Whether a text alone was refused; `kept` are those of the refused keys that the dataset has, as `kept_of`."""
    return reason in OF_TEXTS or (reason in OF_EITHER and key in kept)


def by_reason(directory: Path, counts: Mapping[str, int]) -> tuple[Counter[str], Counter[str]]:
    """How many samples and how many texts alone were refused; `counts` are both, as the manifest has them."""
    texts = Counter({reason: count for reason, count in counts.items() if reason in OF_TEXTS})
    refused = _of_either(directory, counts)
    kept = _kept(directory, refused)
    for reason, keys in refused.items():
        if count := sum(key in kept for key in keys):
            texts[reason] = count
    return Counter(counts) - texts, texts


def kept_of(directory: Path, reasons: Collection[str]) -> frozenset[str]:
    """Keys that the dataset in `directory` has although something was refused of them, which then was a text.

    Args:
        reasons: those in its quarantine, as its manifest counts them; by most of them there are no such keys.
    """
    return _kept(directory, _of_either(directory, reasons))


def _of_either(directory: Path, reasons: Collection[str]) -> dict[str, list[str]]:
    """The keys of what may be a sample or a text, by reason; the index is read only where there are such reasons."""
    refused: dict[str, list[str]] = {reason: [] for reason in reasons if reason in OF_EITHER}
    if refused:
        for row in read_rows(directory / QUARANTINE / INDEX, ["key", "reason"]):
            if row["reason"] in refused:
                refused[row["reason"]].append(row["key"])
    return refused


def _kept(directory: Path, refused: Mapping[str, Collection[str]]) -> frozenset[str]:
    """Those of some refused keys that the dataset has; its table is read only where there are such keys."""
    keys = frozenset[str]().union(*refused.values())
    found = set[str]()
    for batch in read_batches(directory / METADATA, ["key"]) if keys else ():
        found.update(keys.intersection(batch.column("key").to_pylist()))
    return frozenset(found)


def _payload(folder: Path, file: str) -> Payload:
    """Where `00012.tar/0003-KEY` or `00012-0003-KEY` is. No other names are followed, so that none leads elsewhere."""
    if _FILE.fullmatch(file):
        return Payload(folder / file)
    place = _PLACE.fullmatch(file)
    if place is None:
        raise BlipError(f"{folder / INDEX} names {file!r}, which is no place in a quarantine")
    tar, member = place.groups()
    return Payload(folder / tar, member)
