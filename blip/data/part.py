"""A part: one shard of a pairs dataset with all that belongs to it, written, skipped and repeated as a whole.

    with PartWriter(directory, number=12) as part:
        part.add(sample)
        part.quarantine("cat", "truncated", "ends after 12 of 4312 bytes", payload)
    finished(directory)                          # {12: Receipt(...)}
    assemble(directory, parents=[...], parameters={...})

    shards/00012.tar        its samples
    quarantine/00012.tar    the bytes of those that were refused; there is none where none are kept

A part is finished when its receipt is there, which is written last. Parts know nothing of each other, so any
number of processes may write them; `assemble` joins their tables and writes the manifest.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from blip.atomic import atomic_path, flush, write_json
from blip.data.archive import MEMBER_LIMIT, add_member
from blip.data.manifest import Manifest, Shard, write_manifest
from blip.data.media import look_at
from blip.data.metadata import METADATA, Row, join_schemas, row_of, schema_for, table_of
from blip.data.parquet import read_column
from blip.data.sample import PARTNER, Sample, annotations_to_json, plain_key, stable_id
from blip.digest import file_sha256
from blip.errors import BlipError
from blip.room import note_room, room_noted

SHARDS, QUARANTINE, PARTS = "shards", "quarantine", "parts"
INDEX = "index.parquet"
QUARANTINE_SCHEMA = pa.schema([(name, pa.string()) for name in ("key", "reason", "detail", "file")])


@dataclass(frozen=True)
class Receipt:
    """What a finished part holds: its shard, None if every sample was refused, and the refused by reason.

    `paged` is how many of its samples have a picture of several pages or frames, of which the first is used.
    """

    shard: Shard | None
    quarantined: dict[str, int] = field(default_factory=dict)
    items: str = ""
    paged: int = 0


class PartWriter:
    """Writes one part into the directory of a dataset that is being made; what stood there of it is replaced."""

    def __init__(self, directory: Path, number: int, origin: str = "human", items: str = "") -> None:
        """`origin` stands for samples without captions."""
        self._directory, self._number, self._origin = directory, number, origin
        self._items = items
        self._paged = 0
        self._rows: list[Row] = []
        self._keys: set[str] = set()
        self._refused: list[dict[str, str]] = []
        self._tables: dict[str, pa.Table] = {}
        self._payloads: tarfile.TarFile | None = None
        self.url = f"{SHARDS}/{number:05d}.tar"

    def __enter__(self) -> PartWriter:
        for folder in (SHARDS, QUARANTINE, PARTS):
            (self._directory / folder).mkdir(parents=True, exist_ok=True)
        forget(self._directory, [self._number])
        self._tar = _new_tar(self._directory / self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            note_room(error, self._directory, self._directory)
        with room_noted(self._directory):
            self._tar.close()
            if self._payloads is not None:
                self._payloads.close()
            if error is None:
                self._finish()

    @property
    def samples(self) -> int:
        """Samples added so far."""
        return len(self._rows)

    @property
    def refused(self) -> int:
        """Samples refused so far."""
        return len(self._refused)

    def add(self, sample: Sample, *, phash: int | None = None, paged: bool = False) -> None:
        """Append a sample; its size and perceptual hash are read from the media where they are not given.

        `paged`: it had a picture of several pages or frames.

        Raises:
            BlipError: the key is used already, or has other characters than letters, digits, `_` and `-`.
            BadMedia: the media cannot be decoded.
        """
        if not plain_key(sample.key):
            raise BlipError(
                f"sample key {sample.key!r}: only letters, digits, '_' and '-' may stand in a key"
            )
        if sample.key in self._keys:
            raise BlipError(f"sample key {sample.key!r} is used twice in {self._directory / self.url}")
        if phash is None or not sample.width or not sample.height:
            look = look_at(sample)
            sample = replace(sample, width=look.width, height=look.height)
            phash = look.phash
        self._keys.add(sample.key)
        add_member(self._tar, f"{sample.key}.{sample.extension}", sample.media)
        if sample.partner is not None:
            add_member(self._tar, f"{sample.key}.{PARTNER}{sample.partner_extension}", sample.partner)
        add_member(self._tar, f"{sample.key}.json", annotations_to_json(sample))
        self._rows.append(row_of(sample, self.url, phash, self._origin))
        self._paged += paged

    def quarantine(self, key: str, reason: str, detail: str, payload: bytes | None = None) -> None:
        """Note a refused sample with a reason code.

        `payload`, its bytes, is kept in the part's tar of these, unless it is larger than a member that is read.
        """
        file = ""
        if payload is not None and len(payload) <= MEMBER_LIMIT:
            file = self._keep(key, payload)
        told = {"key": key, "reason": reason, "detail": detail, "file": file}
        self._refused.append({name: _writable(text) for name, text in told.items()})

    def _keep(self, key: str, payload: bytes) -> str:
        """Append bytes to the tar of those refused, which begins with the first; TAR/MEMBER, for the index."""
        path = _payload_tar(self._directory, self._number)
        if self._payloads is None:
            self._payloads = _new_tar(path)
        plain = "".join(c if plain_key(c) else "_" for c in key[-80:])
        member = f"{len(self._refused):04d}-{plain}"
        add_member(self._payloads, member, payload)
        return f"{path.name}/{member}"

    def attach(self, name: str, table: pa.Table) -> None:
        """A table of the part's own, which `assemble` joins to NAME.parquet."""
        self._tables[name] = table

    def _finish(self) -> None:
        reasons = Counter(row["reason"] for row in self._refused)
        receipt = Receipt(self._finish_shard(), dict(sorted(reasons.items())), self._items, self._paged)
        if self._payloads is not None:
            flush(_payload_tar(self._directory, self._number))
        if self._refused:
            self._tables[QUARANTINE] = pa.Table.from_pylist(self._refused, schema=QUARANTINE_SCHEMA)
        for name, table in self._tables.items():
            _write(table, _table(self._directory, self._number, name))
        if receipt.shard is None:  # it has stood for a part that was begun, by which `forget` knows one
            (self._directory / self.url).unlink()
        write_json(_receipt(self._directory, self._number), asdict(receipt))

    def _finish_shard(self) -> Shard | None:
        path = self._directory / self.url
        if not self._rows:
            return None
        flush(path)
        self._tables["metadata"] = table_of(self._rows, schema_for(self._rows))
        return Shard(self.url, file_sha256(path), len(self._rows), path.stat().st_size)


def _writable(text: str) -> str:
    """Half a surrogate pair, as of a file name that is no UTF-8, as its escape: Parquet takes none."""
    return text.encode("utf-8", "backslashreplace").decode()


def finished(directory: Path) -> dict[int, Receipt]:
    """The receipts of a dataset that is being made, by the number of their part, in the order of the numbers."""
    receipts = {}
    paths = (directory / PARTS).glob("*.json")
    for path in sorted(paths, key=lambda path: int(path.stem)):  # 100000 comes behind 99999
        value = json.loads(path.read_text(encoding="utf-8"))
        shard = Shard(**value["shard"]) if value["shard"] else None
        receipts[int(path.stem)] = Receipt(shard, value["quarantined"], value["items"], value.get("paged", 0))
    return receipts


def forget(directory: Path, numbers: Iterable[int]) -> None:
    """Remove parts, their receipts first and their shards last, or what is there of them.

    The folder of the receipts, which has files of every part, is read through once, and not where none was begun.
    """
    begun = {f"{number:05d}": number for number in numbers if _is_begun(directory, number)}
    if not begun:
        return
    for number in begun.values():
        _receipt(directory, number).unlink(missing_ok=True)
    for left in [path for path in (directory / PARTS).glob("*") if path.name.partition(".")[0] in begun]:
        left.unlink(missing_ok=True)
    for number in begun.values():
        _payload_tar(directory, number).unlink(missing_ok=True)
        _shard(directory, number).unlink(missing_ok=True)


def _is_begun(directory: Path, number: int) -> bool:
    signs = (_receipt(directory, number), _shard(directory, number), _table(directory, number, QUARANTINE))
    return any(sign.exists() for sign in signs)


def finished_numbers(directory: Path) -> set[int]:
    """The numbers of the parts that are finished; their receipts are not read."""
    return {int(path.stem) for path in (directory / PARTS).glob("*.json")}


def refusals(directory: Path, numbers: Sequence[int]) -> Iterator[dict[str, str]]:
    """The rows of the quarantine of some parts."""
    for number in numbers:
        path = _table(directory, number, QUARANTINE)
        if path.is_file():
            yield from pq.read_table(path).to_pylist()


def tables(directory: Path, numbers: Iterable[int], name: str) -> list[Path]:
    """The tables of a name in the order of their parts; not every part has one."""
    paths = [_table(directory, number, name) for number in numbers]
    return [path for path in paths if path.is_file()]


def assemble(
    directory: Path,
    parents: list[str],
    parameters: dict[str, Any],
    attached: Mapping[str, pa.Schema] | None = None,
    on_table: Callable[[], object] = lambda: None,
) -> Manifest:
    """Join the finished parts to a dataset: metadata, quarantine index, attached tables, and the manifest last.

    Held in memory are the tables of one part and 8 bytes for each sample. `on_table` is called after each table.

    Raises:
        BlipError: two samples have the same key, or a truth column has two types.
    """
    receipts = finished(directory)
    schema = join_schemas(pq.read_schema(path) for path in tables(directory, receipts, "metadata"))
    wanted = {"metadata": (directory / METADATA, schema), QUARANTINE: (_index(directory), QUARANTINE_SCHEMA)}
    for name, columns in (attached or {}).items():
        wanted[name] = (directory / f"{name}.parquet", columns)
    for name, (target, columns) in wanted.items():
        _join(target, tables(directory, receipts, name), columns, on_table)
    _check_keys(directory / METADATA)
    shards = [receipt.shard for receipt in receipts.values() if receipt.shard]
    quarantined: Counter[str] = Counter()
    for receipt in receipts.values():
        quarantined.update(receipt.quarantined)
    manifest = Manifest(parents, parameters, shards, dict(quarantined))
    write_manifest(manifest, directory)
    return manifest


def _join(target: Path, tables: Sequence[Path], schema: pa.Schema, on_table: Callable[[], object]) -> None:
    """One row group a part, in the order of the parts; a column that a part lacks is null there."""
    with atomic_path(target) as temporary, closing(pq.ParquetWriter(temporary, schema)) as writer:
        for path in tables:
            rows = pq.read_table(path)
            missing = [name for name in schema.names if name not in rows.schema.names]
            for name in missing:
                rows = rows.append_column(name, pa.nulls(len(rows), schema.field(name).type))
            writer.write_table(rows.select(schema.names).cast(schema))
            on_table()


def _check_keys(metadata: Path) -> None:
    keys = map(stable_id, read_column(metadata, "key"))
    ids = np.fromiter(keys, np.int64, pq.read_metadata(metadata).num_rows)
    ids.sort()  # in place, which takes no more memory
    twice = set(ids[1:][ids[1:] == ids[:-1]].tolist())
    if not twice:
        return
    found = sorted({key for key in read_column(metadata, "key") if stable_id(key) in twice})
    raise BlipError(
        f"{metadata.parent}: {len(found):,} sample key(s) stand more than once, as {', '.join(found[:3])}; "
        "the names in a source must differ"
    )


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path)
    flush(path)


def _new_tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "w", format=tarfile.GNU_FORMAT)


def _payload_tar(directory: Path, number: int) -> Path:
    return directory / QUARANTINE / f"{number:05d}.tar"


def _shard(directory: Path, number: int) -> Path:
    return directory / SHARDS / f"{number:05d}.tar"


def _table(directory: Path, number: int, name: str) -> Path:
    return directory / PARTS / f"{number:05d}.{name}.parquet"


def _index(directory: Path) -> Path:
    return directory / QUARANTINE / INDEX


def _receipt(directory: Path, number: int) -> Path:
    return directory / PARTS / f"{number:05d}.json"
