"""Write a pairs dataset; the whole directory appears at once, at the end, or not at all.

    with PairsWriter(Path("data/datasets/human"), samples_per_shard=1000, parents=[], parameters={}) as w:
        w.add(sample)
        w.quarantine("broken", "truncated", "ends after 12 of 4312 bytes", payload)

The same samples in the same order give the same bytes.
"""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from hashlib import file_digest
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from blip.atomic import atomic_path
from blip.data.archive import add_member
from blip.data.manifest import Manifest, Shard, write_manifest
from blip.data.media import look_at
from blip.data.metadata import METADATA, Row, row_of, schema_for, table_of
from blip.data.sample import Sample, annotations_to_json, stable_id
from blip.errors import BlipError

SHARDS, QUARANTINE = "shards", "quarantine"
QUARANTINE_SCHEMA = pa.schema([(name, pa.string()) for name in ("key", "reason", "detail", "file")])
_KEY = re.compile(r"[A-Za-z0-9_\-]+")


class PairsWriter:
    """Collects samples into shards, their description into a table, and refused ones into a quarantine."""

    def __init__(
        self,
        directory: Path,
        *,
        samples_per_shard: int,
        parents: list[str],
        parameters: dict[str, Any],
        origin: str = "human",
    ) -> None:
        """Write to `directory`, replacing what is there; `origin` stands for samples without captions."""
        self._target = Path(directory)
        self._per_shard = samples_per_shard
        self._parents = parents
        self._parameters = parameters
        self._origin = origin
        self._stack = ExitStack()
        self._shards: list[Shard] = []
        self._seen: set[int] = set()
        self._rows: list[Row] = []
        self._refused: list[dict[str, str]] = []
        self.quarantined: Counter[str] = Counter()

    def __enter__(self) -> PairsWriter:
        self._directory = self._stack.enter_context(atomic_path(self._target))
        for folder in (SHARDS, QUARANTINE):
            (self._directory / folder).mkdir(parents=True)
        self._tar: tarfile.TarFile | None = None
        self._metadata: pq.ParquetWriter | None = None
        self._quarantine = pq.ParquetWriter(self._directory / QUARANTINE / "index.parquet", QUARANTINE_SCHEMA)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException as failure:
            self._close_files()
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._close_files()
        self._stack.__exit__(kind, error, trace)

    @property
    def samples(self) -> int:
        """Samples added so far."""
        return sum(shard.samples for shard in self._shards) + len(self._rows)

    def add(self, sample: Sample, *, phash: int | None = None) -> None:
        """Append a sample; its size and perceptual hash are read from the media where they are not given.

        Raises:
            BlipError: the key is used already, or has other characters than letters, digits, `_` and `-`.
            BadMedia: the media cannot be decoded.
        """
        self._check_key(sample.key)
        if phash is None or not sample.width or not sample.height:
            look = look_at(sample)
            sample = replace(sample, width=look.width, height=look.height)
            phash = look.phash
        tar = self._open_shard()
        add_member(tar, f"{sample.key}.{sample.extension}", sample.media)
        add_member(tar, f"{sample.key}.json", annotations_to_json(sample))
        self._rows.append(row_of(sample, self._shard_url(), phash, self._origin))
        if len(self._rows) >= self._per_shard:
            self._close_shard()

    def quarantine(self, key: str, reason: str, detail: str, payload: bytes | None = None) -> None:
        """Note a refused sample with a reason code; `payload`, its bytes, is kept in a file of its own."""
        file = ""
        if payload is not None:
            file = f"{sum(self.quarantined.values()):06d}-{re.sub(r'[^A-Za-z0-9_-]', '_', key)[-80:]}"
            (self._directory / QUARANTINE / file).write_bytes(payload)
        self._refused.append({"key": key, "reason": reason, "detail": detail, "file": file})
        self.quarantined[reason] += 1
        if len(self._refused) >= 1000:
            self._flush_quarantine()

    def _check_key(self, key: str) -> None:
        if not _KEY.fullmatch(key):
            raise BlipError(f"sample key {key!r}: only letters, digits, '_' and '-' may stand in a key")
        number = stable_id(key)
        if number in self._seen:
            raise BlipError(f"sample key {key!r} is used twice in {self._target}")
        self._seen.add(number)

    def _shard_url(self) -> str:
        return f"{SHARDS}/{len(self._shards):05d}.tar"

    def _open_shard(self) -> tarfile.TarFile:
        if self._tar is None:
            path = self._directory / self._shard_url()
            self._tar = tarfile.open(path, "w", format=tarfile.GNU_FORMAT)  # noqa: SIM115 - closed per shard
        return self._tar

    def _close_shard(self) -> None:
        if self._tar is None:
            return
        self._tar.close()
        self._tar = None
        path = self._directory / self._shard_url()
        with path.open("rb") as handle:
            digest = file_digest(handle, "sha256").hexdigest()
        self._write_rows()
        self._shards.append(Shard(self._shard_url(), digest, len(self._rows), path.stat().st_size))
        self._rows = []

    def _write_rows(self) -> None:
        if self._metadata is None:
            self._metadata = pq.ParquetWriter(self._directory / METADATA, schema_for(self._rows))
        self._metadata.write_table(table_of(self._rows, self._metadata.schema))

    def _flush_quarantine(self) -> None:
        self._quarantine.write_table(pa.Table.from_pylist(self._refused, schema=QUARANTINE_SCHEMA))
        self._refused = []

    def _finish(self) -> None:
        self._close_shard()
        if self._metadata is None:
            self._write_rows()
        self._flush_quarantine()
        self._close_files()
        manifest = Manifest(self._parents, self._parameters, self._shards, dict(self.quarantined))
        write_manifest(manifest, self._directory)

    def _close_files(self) -> None:
        for file in (self._tar, self._metadata, self._quarantine):
            if file is not None:
                file.close()
        self._tar = None
