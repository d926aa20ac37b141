"""The manifest of a pairs dataset: what it was made from, its shards, its totals. Written last."""

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from blip.atomic import write_json
from blip.errors import BlipError

SCHEMA = "blip-pairs/1"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Shard:
    """One tar of samples; `url` is relative to the dataset's directory."""

    url: str
    sha256: str
    samples: int
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Lists shards, never samples, so that it stays small whatever the dataset holds.

    `parents` are the digests or paths of what the dataset was made from, `parameters` the settings that made
    it, `quarantined` a count of refused samples by reason code.
    """

    parents: list[str]
    parameters: dict[str, Any]
    shards: list[Shard]
    quarantined: dict[str, int] = field(default_factory=dict)
    schema: str = SCHEMA

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return sum(shard.samples for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.bytes for shard in self.shards)


def write_manifest(manifest: Manifest, directory: Path) -> None:
    """Write `directory/manifest.json`."""
    fields = asdict(manifest)
    shards = fields.pop("shards")
    quarantined = dict(sorted(fields.pop("quarantined").items()))
    totals = {"samples": manifest.samples, "bytes": manifest.bytes, "quarantined": quarantined}
    value = {"schema": fields.pop("schema"), **fields, **totals, "shards": shards}
    write_json(directory / MANIFEST, value)


def manifest_digest(directory: Path) -> str:
    """SHA-256 of `directory/manifest.json`, which names the digest of every shard: what identifies a dataset."""
    return sha256((directory / MANIFEST).read_bytes()).hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Read `directory/manifest.json`.

    Raises:
        BlipError: there is none, or it is not one that this version reads.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise BlipError(
            f"{directory} is not a pairs dataset: it has no {MANIFEST}. "
            "`blip ingest SOURCE` makes one, `blip stage ingest` those that params.yaml lists"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != SCHEMA:
            raise BlipError(f"{path}: schema {value['schema']!r} is not {SCHEMA!r}; ingest the dataset again")
        shards = [Shard(**shard) for shard in value["shards"]]
        return Manifest(value["parents"], value["parameters"], shards, value["quarantined"])
    except (ValueError, KeyError, TypeError) as error:
        raise BlipError(f"{path}: not a manifest ({error!r}); ingest the dataset again") from None
