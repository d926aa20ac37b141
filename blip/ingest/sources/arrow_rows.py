"""Rows of Arrow batches, a bounded number of bytes at a time, however much a small file unpacks to.

    for batch in batches_of(Path("pairs.parquet"), ["image", "caption"]):
        for row in rows_of(batch, Path("pairs.parquet"), first=1): ...

A text that stands once in a file and in every row is as many texts when it becomes Python's: two kilobytes of Parquet
were gigabytes. So dictionaries stay dictionaries, texts are measured where they lie, a row with over TEXT_LIMIT bytes
of them is refused unread, and rows become Python's in runs of RUN bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from blip.data.quarantine import TOO_LONG
from blip.ingest.sources.refused import Refused, key_of
from blip.ingest.sources.row import Cells, Row

# What pyarrow raises for a damaged file
READ_ERRORS = (OSError, ValueError, pa.ArrowException, RecursionError)
TEXT_LIMIT = 1 << 20  # bytes of texts in a row
RUN = 16 << 20  # bytes that become Python's together
BATCH = 256  # rows of a parquet file at most
DICTIONARY_BATCH = 8192  # where texts are held once
FEW = 16
SWOLLEN = 1 << 30  # bytes of a batch

Numbers = NDArray[np.int64]


def batches_of(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The batches of a parquet file; texts that are stored once and would swell are held once.

    Raises:
        READ_ERRORS: it is damaged.
    """
    chosen = list(columns) if columns else None
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            swelling = _swelling(path, file, group)
            rows = min(_rows_in_run(file.metadata.row_group(group)), DICTIONARY_BATCH if swelling else BATCH)
            with pq.ParquetFile(path, read_dictionary=swelling) if swelling else nullcontext(file) as reader:
                yield from reader.iter_batches(rows, row_groups=[group], columns=chosen)


def _rows_in_run(group: pq.RowGroupMetaData) -> int:
    """How many rows have RUN bytes on average; few where each text goes on from the last, so that none tells."""
    average = group.total_byte_size // max(group.num_rows, 1)
    grows = any("DELTA_BYTE_ARRAY" in group.column(number).encodings for number in range(group.num_columns))
    return max(min(RUN // max(average, 1), FEW if grows else DICTIONARY_BATCH), 1)


def _swelling(path: Path, file: pq.ParquetFile, group: int) -> list[str]:
    """The columns of which BATCH rows may have over SWOLLEN bytes, by the longest value of their dictionary."""
    found = []
    for number in range(file.metadata.num_columns):
        chunk, column = file.metadata.row_group(group).column(number), file.schema.column(number)
        if chunk.has_dictionary_page and chunk.physical_type == "BYTE_ARRAY":
            values = chunk.num_values if column.max_repetition_level else min(chunk.num_values, BATCH)
            if values * _longest(path, column.path, group) > SWOLLEN:
                found.append(column.path)
    return found


def _longest(path: Path, column: str, group: int) -> int:
    """The bytes of the longest value in the dictionary of a column."""
    with pq.ParquetFile(path, read_dictionary=[column]) as file:
        batches = list(islice(file.iter_batches(1, row_groups=[group], columns=[column]), 1))
    inner = batches[0].column(0) if batches else pa.nulls(0)
    while isinstance(inner, pa.StructArray | pa.ListArray | pa.LargeListArray):
        inner = inner.field(0) if isinstance(inner, pa.StructArray) else inner.values
    return (
        int(_bytes(inner.dictionary, _has_bytes).max(initial=0))
        if isinstance(inner, pa.DictionaryArray)
        else 0
    )


def rows_of(batch: pa.RecordBatch, path: Path, first: int) -> Iterator[Row | Refused]:
    """The rows of a batch, numbered from `first`; text that is no UTF-8 has U+FFFD."""
    texts, sizes = (_measured(batch.columns, len(batch), counted) for counted in (_is_text, _has_bytes))
    start = held = 0
    if not (texts > TEXT_LIMIT).any() and sizes.sum() <= RUN:
        yield from _run(batch, 0, len(batch), first)
        return
    for row in range(len(batch)):
        if texts[row] > TEXT_LIMIT:
            yield from _run(batch, start, row, first)
            yield _too_long(path, first + row, int(texts[row]))
            start, held = row + 1, 0
        elif row > start and held + sizes[row] > RUN:
            yield from _run(batch, start, row, first)
            start, held = row, int(sizes[row])
        else:
            held += int(sizes[row])
    yield from _run(batch, start, len(batch), first)


def _run(batch: pa.RecordBatch, start: int, end: int, first: int) -> Iterator[Row]:
    for number, values in enumerate(_cells_of(batch.slice(start, end - start)), first + start):
        yield Row(number, values)


def _too_long(path: Path, number: int, size: int) -> Refused:
    detail = (
        f"{path.name}, row {number}: {size:,} bytes of texts, over the {TEXT_LIMIT:,} that a row may have"
    )
    return Refused(f"{key_of(path.stem)}-{number:08d}", TOO_LONG, detail)


def _measured(columns: Iterable[pa.Array], length: int, counted: Callable[[pa.DataType], bool]) -> Numbers:
    """The bytes of each row, of the values whose type is counted."""
    return sum((_bytes(column, counted) for column in columns), np.zeros(length, np.int64))


def _bytes(array: pa.Array, counted: Callable[[pa.DataType], bool]) -> Numbers:
    if isinstance(array, pa.DictionaryArray):
        return _taken(_bytes(array.dictionary, counted), array.indices)
    if isinstance(array, pa.StructArray):
        return _measured(array.flatten(), len(array), counted)
    if isinstance(array, pa.ListArray | pa.LargeListArray):
        ends = np.concatenate(([0], np.cumsum(_bytes(array.values, counted))))
        return np.diff(ends[array.offsets.to_numpy()])
    if not counted(array.type):
        return np.zeros(len(array), np.int64)
    return pc.call_function("binary_length", [array]).fill_null(0).to_numpy(zero_copy_only=False)


def _taken(values: Numbers, indices: pa.Array) -> Numbers:
    places = indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    return np.append(values, 0)[places]


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _has_bytes(kind: pa.DataType) -> bool:
    return _is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _cells_of(batch: pa.RecordBatch) -> Iterator[Cells]:
    columns = [_values(column.cast(_plain(column.type))) for column in batch.columns]
    for row in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, row, strict=True))


def _plain(kind: pa.DataType) -> pa.DataType:
    """A type without dictionaries, whose values become Python's ten times as fast."""
    if isinstance(kind, pa.DictionaryType):
        return kind.value_type
    if isinstance(kind, pa.ListType):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if isinstance(kind, pa.StructType):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind


def _values(column: pa.Array) -> Iterable[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        buffer = scalar.as_buffer() if hasattr(scalar, "as_buffer") else None
        return buffer.to_pybytes().decode(errors="replace") if buffer else "\ufffd"
