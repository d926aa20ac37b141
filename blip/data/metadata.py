"""metadata.parquet: one row a sample, everything but the media, the truth included."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pyarrow as pa

from blip.data.sample import Sample
from blip.errors import BlipError

METADATA = "metadata.parquet"
TRUTH = "truth_"
PARTNER_SHA256 = "partner_sha256"  # a column only where samples have two pictures
NAME = "name"  # a column only where keys do not tell what the files are called

_CAPTION = pa.struct(
    [("text", pa.string()), ("origin", pa.string()), ("itm", pa.float32()), ("itc", pa.float32())]
)
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("phash", pa.uint64()),
        ("captions", pa.list_(_CAPTION)),
        ("caption", pa.string()),
        ("origin", pa.string()),
        ("questions", pa.int32()),
        ("url", pa.string()),
    ]
)
_TRUTH_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


@dataclass(frozen=True)
class Row:
    """A sample without its media, as it will stand in the table."""

    values: dict[str, Any]
    truth: dict[str, str | int | float]


def row_of(sample: Sample, shard: str, phash: int, origin: str) -> Row:
    """Describe a sample; `origin` stands for samples without captions."""
    captions = [vars(caption) for caption in sample.captions]
    values = {
        "key": sample.key,
        "shard": shard,
        "width": sample.width,
        "height": sample.height,
        "bytes": len(sample.media),
        "sha256": sha256(sample.media).hexdigest(),
        "phash": phash,
        "captions": captions,
        "caption": captions[0]["text"] if captions else None,
        "origin": captions[0]["origin"] if captions else origin,
        "questions": len(sample.questions),
        "url": sample.url,
    }
    if sample.partner is not None:
        values[PARTNER_SHA256] = sha256(sample.partner).hexdigest()
    if sample.name is not None:
        values[NAME] = sample.name
    return Row(values, {TRUTH + name: value for name, value in (sample.truth or {}).items()})


def schema_for(rows: Sequence[Row]) -> pa.Schema:
    """The table's columns: the fixed ones, those that not all have, and a `truth_` column for each name in the rows."""
    some = [name for name in (PARTNER_SHA256, NAME) if any(name in row.values for row in rows)]
    fixed = [*SCHEMA, *(pa.field(name, pa.string()) for name in some)]
    types: dict[str, pa.DataType] = {}
    for row in rows:
        for name, value in row.truth.items():
            types.setdefault(name, _TRUTH_TYPES[type(value)])
    return pa.schema([*fixed, *(pa.field(name, kind) for name, kind in types.items())])


def join_schemas(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """The columns of all tables, the fixed ones first.

    Raises:
        BlipError: a truth column has one type in one table and another in the next.
    """
    try:
        return pa.unify_schemas([SCHEMA, *schemas])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise BlipError(
            f"a truth column changes its type: {error}; give it one in the whole source"
        ) from None


def table_of(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table.

    Raises:
        BlipError: a truth column changes its type among the rows.
    """
    try:
        return pa.Table.from_pylist([{**row.values, **row.truth} for row in rows], schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        shard = rows[0].values["shard"]
        raise BlipError(f"shard {shard}: a truth column changes its type: {error}") from None
