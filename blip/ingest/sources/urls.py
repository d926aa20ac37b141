"""Kind `urls`: lists of URLs with captions, row by row, whatever their size; the pictures are fetched shard by shard.

    for row in read_rows(Path("ccs_synthetic_filtered.json")): ...      # Address, or Refused with the row's number

Read are JSON (`[{"url": ..., "caption": ...}, ...]`, as BLIP's bootstrapped lists), JSON lines, CSV and TSV (also
of two columns without a header, as CC3M's and CC12M's), Parquet (LAION's), and folders of such files. Columns are
found by their usual names, or given as `columns: {image: ..., caption: ...}`, where `image` is the URL. Held in
memory are one row, or one batch of a Parquet file. So rows of one URL stay apart, each a sample: of lists that share
their pictures, as BLIP's filtered and its synthetic one, each is a dataset of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from pathlib import Path

from blip.config import Columns, Source
from blip.errors import BlipError
from blip.ingest.sources import rows
from blip.ingest.sources.cells import captions_of
from blip.ingest.sources.columns import ADDRESS, IMAGE, guess, pick_address, tell_of_others
from blip.ingest.sources.files import MACOS
from blip.ingest.sources.json_stream import is_list
from blip.ingest.sources.notes import tell
from blip.ingest.sources.refused import NO_CAPTION, Refused
from blip.ingest.sources.row import BROKEN_ROW, BROKEN_TABLE, Row
from blip.ingest.sources.separated import open_text

EXTENSIONS = (*rows.EXTENSIONS, "ndjson", "txt")
LINES = (".jsonl", ".ndjson")
PACKED = (".gz", ".zst", ".xz", ".bz2", ".zip")
NO_URL = "no_url"
MALFORMED = frozenset({BROKEN_ROW, NO_URL, NO_CAPTION})
_HEAD, _TAIL = 1 << 20, 4096  # characters in which a first line ends; bytes that show a list's end
_LOOKED_AT = 20  # rows, for their keys
_LISTS, _FIRST, _MANY = 8, 1000, 0.1  # lists that are compared, by how many rows, and the share that tells


@dataclass(frozen=True)
class Address:
    """A picture to fetch: the key of its sample, where it is, and its captions, a line each."""

    key: str
    url: str
    caption: str

    @property
    def captions(self) -> list[str]:
        """The captions one by one."""
        return self.caption.split("\n")


def read(source: Source, path: Path) -> Iterator[Address | Refused]:
    """The rows of a list of the settings."""
    return read_rows(path, source.columns)


def read_rows(path: Path, columns: Columns | None = None) -> Iterator[Address | Refused]:
    """The rows of a list or of a folder of lists; keys are the numbers of the rows.

    Raises:
        BlipError: there is no such list, it is packed or cut, or has no column of URLs or captions.
    """
    number = 0
    files = _files(path)
    for file in files:
        _see_its_end(file)
    for file in files:
        for row in _rows(file, columns, told=True):
            yield replace(row, key=f"{number:09d}")
            number += 1


def tell_of_shared_pictures(sources: Sequence[Source]) -> None:
    """Say, before anything is fetched, that lists of one dataset begin with the same pictures."""
    lists = [(file, s.columns) for s in sources if s.kind == "urls" for file in _files(Path(s.source))]
    compared = lists[:_LISTS] if len(lists) > 1 else []
    firsts = [(file, _first_urls(file, columns)) for file, columns in compared]
    for (one, urls), (other, others) in combinations(firsts, 2):
        if len(urls & others) > _MANY * min(len(urls), len(others)):
            tell(
                f"{other} has pictures of {one}: each row is a sample, so that these are fetched twice, and validate "
                "stops (max_duplicate_share). Make a dataset of each list; that of written captions has the origin "
                "synthetic"
            )
            return


def _first_urls(file: Path, columns: Columns | None) -> set[str]:
    return {row.url for row in islice(_rows(file, columns), _FIRST) if isinstance(row, Address)}


def is_url_list(path: Path) -> bool:
    """Whether the first row of a file has a URL, and no column its picture."""
    try:
        row = next(_rows(path, None), None)
        return isinstance(row, Address) and _looks_like_url(row.url) and not _has_pictures(path)
    except (BlipError, OSError):
        return False


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    packed = next((file.name for file in files if file.suffix.lower() in PACKED), None)
    if packed:
        raise BlipError(f"source {path}: {packed} is packed; unpack it, lists are read as they are")
    found = [
        file
        for file in files
        if file.suffix[1:].lower() in EXTENSIONS and file.is_file() and not file.name.startswith(MACOS)
    ]
    if not found:
        raise BlipError(f"source {path}: no list of URLs there; read are {', '.join(EXTENSIONS)}")
    return found


def _rows(file: Path, columns: Columns | None, told: bool = False) -> Iterator[Address | Refused]:
    """Rows without their keys yet; `told`: it is said which column they are of."""
    first = _first_fields(file)
    if any(map(_looks_like_url, first)):
        yield from _headless(file, first)
        return
    names = _names(file)
    url, caption = pick_address(names, _found(file, names, columns), file)
    if told:
        tell_of_others(names, caption, columns, file)
    for row in _table(file, [url, caption]):
        if isinstance(row, Row):
            yield _address(f"{file.name}, row {row.number:,}", row.text(url), row.values.get(caption))
        elif row.reason == BROKEN_TABLE:
            raise BlipError(f"source {row.detail}; get it again, or take it away: what is finished is kept")
        else:
            yield row


def _found(file: Path, names: list[str], columns: Columns | None) -> Columns | None:
    """The columns given, or that of the pictures where it is the one that has addresses."""
    image = guess(names, IMAGE)
    if (columns and columns.image) or guess(names, ADDRESS) or not image or not has_addresses(file, image):
        return columns
    return Columns(image=image, caption=columns.caption if columns else None)


def _has_pictures(file: Path) -> bool:
    """Whether a column has pictures, or names of files: where they came from is then only told."""
    if any(map(_looks_like_url, _first_fields(file))):
        return False
    image = guess(_names(file), IMAGE)
    return image is not None and not has_addresses(file, image)


def has_addresses(file: Path, column: str) -> bool:
    """Whether the first value of a table's column is a URL."""
    found = (row for row in islice(_table(file, None), _LOOKED_AT) if isinstance(row, Row))
    return _looks_like_url(next((text for row in found if (text := row.text(column))), ""))


def _table(file: Path, columns: list[str] | None) -> Iterator[Row | Refused]:
    if file.suffix.lower() in LINES:
        return rows.read_json_lines(file)
    return rows.read_rows(file, columns)


def _names(file: Path) -> list[str]:
    """The columns; of JSON the keys in the first rows, of which one may be broken."""
    if file.suffix.lower() not in (".json", *LINES):
        return rows.column_names(file)
    found = [row.values for row in islice(_table(file, None), _LOOKED_AT) if isinstance(row, Row)]
    return list(dict.fromkeys(name for values in found for name in values))


def _see_its_end(file: Path) -> None:
    """A list that was cut is found now, not after a night of downloads."""
    table = file.suffix.lower() == ".parquet"
    if not table and (file.suffix.lower() != ".json" or not is_list(file)):
        return
    with file.open("rb") as handle:
        handle.seek(max(file.stat().st_size - _TAIL, 0))
        end = handle.read()
    if not (end.endswith(b"PAR1") if table else end.rstrip().endswith(b"]")):
        what = "PAR1 of a Parquet file" if table else "] of a list"
        raise BlipError(
            f"source {file} does not end with the {what}: it was cut; get it again, or take it away to do without it"
        )


def _first_fields(file: Path) -> list[str]:
    """The fields of the first line, of which one is a URL where the header is missing."""
    if file.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return []
    with open_text(file) as handle:
        fields = _fields(file, handle.readline(_HEAD))
    if any(map(_looks_like_url, fields)) and len(fields) != 2:
        raise BlipError(
            f"source {file}: its first row has {len(fields)} columns, a URL among them; a list without a header has "
            "the two columns URL and caption, any other needs a first row that names them"
        )
    if file.suffix.lower() == ".txt" and len(fields) != 2:
        raise BlipError(f"source {file}: its lines are not a URL and a caption with a tab between")
    return fields


def _headless(file: Path, first: list[str]) -> Iterator[Address | Refused]:
    """A row a line; a quote in one of CC3M's captions is a quote."""
    url = 0 if _looks_like_url(first[0]) else 1
    with file.open(encoding="utf-8-sig", errors="replace", newline="\n") as handle:
        for number, line in enumerate(handle, 1):
            place = f"{file.name}, line {number:,}"
            fields = _fields(file, line)
            if len(fields) == 2:
                yield _address(place, fields[url], fields[1 - url])
            elif line.strip():
                detail = f"{place}: {len(fields)} fields, not a URL and a caption"
                yield Refused("", BROKEN_ROW, detail, line.encode(errors="replace"))


def _fields(file: Path, line: str) -> list[str]:
    line = line.rstrip("\r\n")
    if file.suffix.lower() != ".csv":
        return line.split("\t")
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return [line]


def _address(place: str, url: str, cell: object) -> Address | Refused:
    url, caption = url.strip(), "\n".join(dict.fromkeys(filter(None, captions_of(cell))))
    if not url:
        return Refused("", NO_URL, f"{place} has no URL: {caption[:200]}")
    if not caption:
        return Refused("", NO_CAPTION, f"{place} has no caption: {url[:200]}")
    return Address("", url, caption)


def _looks_like_url(field: str) -> bool:
    return field.lstrip().lower().startswith(("http://", "https://"))
