"""Broken rows of a table are refused one by one, with their lines; the rows around them are read."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.data.sources.refused import Refused
from blip.data.sources.rows import QUOTED_LINES, Row, column_names, read_rows
from blip.errors import BlipError

from .reading import write


def rows(path: Path) -> list[tuple[int, list]]:
    return [(row.number, list(row.values.values())) for row in read_rows(path) if isinstance(row, Row)]


def broken(path: Path) -> list[tuple[str, str]]:
    return [(row.reason, row.detail) for row in read_rows(path) if isinstance(row, Refused)]


def test_a_row_with_too_few_or_too_many_fields_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write(path, "image,caption", "a,one", "b", "c,two, three", "", "d,four")
    assert rows(path) == [(2, ["a", "one"]), (6, ["d", "four"])]
    assert broken(path) == [
        ("broken_row", "t.csv, line 3: 1 fields, the header has 2; quote texts with ','"),
        ("broken_row", "t.csv, line 4: 3 fields, the header has 2; quote texts with ','"),
    ]
    assert [row.payload for row in read_rows(path) if isinstance(row, Refused)] == [b"b\n", b"c,two, three\n"]


def test_a_quote_that_is_never_closed_costs_its_own_line_only(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write(path, "image,caption", 'a,"lost', *(f"n{number},text" for number in range(2500)), 'z,"also lost')
    found = rows(path)
    assert len(found) == 2500
    assert (found[0], found[-1]) == ((3, ["n0", "text"]), (2502, ["n2499", "text"]))
    assert [detail for _, detail in broken(path)] == [
        f"t.csv, line 2: a quote is not closed within {QUOTED_LINES:,} lines",
        "t.csv, line 2503: unexpected end of data",
    ]


def test_a_quote_closed_by_another_rows_quote_is_not_taken_for_one_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write(path, "image,caption", 'a,"lost', "b,two", 'c,"three"', "d,four")
    assert rows(path) == [(3, ["b", "two"]), (4, ["c", "three"]), (5, ["d", "four"])]
    assert [detail for _, detail in broken(path)] == ["t.csv, line 2: ',' expected after '\"'"]


def test_a_text_in_quotes_may_span_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write(path, "image,caption", 'a,"one', 'and ""two"""', "b,three")
    assert rows(path) == [(2, ["a", 'one\nand "two"']), (4, ["b", "three"])]


def test_a_tsv_may_have_stray_quotes(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    write(path, "image\tcaption", 'a\t"A" is for apple', 'b\t"never closed', 'c\t"quoted, all of it"', "d")
    assert rows(path) == [
        (2, ["a", '"A" is for apple']),
        (3, ["b", '"never closed']),
        (4, ["c", "quoted, all of it"]),
    ]
    assert len(broken(path)) == 1


def test_a_bad_json_line_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    deep = "[" * 100_000
    write(path, '{"image": "a"}', '{"image": ', "", "[1]", deep, '{"image": "b"}')
    assert rows(path) == [(1, ["a"]), (6, ["b"])]
    assert [detail.split(":")[0] for _, detail in broken(path)] == [f"t.jsonl, line {n}" for n in (2, 4, 5)]


def test_a_json_list_streams(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps([{"image": "a", "n": 1.5}, 7, {"image": "b", "n": 2}]))
    assert rows(path) == [(1, ["a", 1.5]), (3, ["b", 2])]
    assert broken(path) == [("broken_row", "t.json, line 2: not an object")]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BlipError, match=r"t\.json is no JSON after 2 values of item: .* is it cut\?"):
        rows(path)


def test_broken_utf_8_is_marked_not_fatal(tmp_path: Path) -> None:
    text = "caf\u00e9".encode("latin-1")
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfimage,caption\na," + text + b"\nb,two\n")
    (tmp_path / "t.jsonl").write_bytes(
        b'{"image":"a","caption":"' + text + b'"}\n{"image":"b","caption":"two"}\n'
    )
    (tmp_path / "t.json").write_bytes(
        b'[{"image":"a","caption":"' + text + b'"},{"image":"b","caption":"two"}]'
    )
    strings = pa.array([text, b"two"]).view(pa.binary()).cast(pa.binary())
    broken = pa.StringArray.from_buffers(2, *strings.buffers()[1:])
    pq.write_table(pa.table({"image": ["a", "b"], "caption": broken}), tmp_path / "t.parquet")
    for extension in ("csv", "jsonl", "json", "parquet"):
        found = [values for _, values in rows(tmp_path / f"t.{extension}")]
        assert found == [["a", "caf\ufffd"], ["b", "two"]], extension


def test_a_damaged_parquet_file_is_one_refusal(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"image": [f"{n}.png" for n in range(5000)]}), path, row_group_size=1000, compression="none"
    )
    data = bytearray(path.read_bytes())
    middle = data.index(b"2500.png")
    data[middle - 20_000 : middle] = b"\xff" * 20_000
    path.write_bytes(data)
    found = list(read_rows(path))
    assert isinstance(found[-1], Refused)
    assert found[-1].reason == "broken_table"
    assert all(isinstance(row, Row) for row in found[:-1])
    path.write_bytes(b"PAR1")
    with pytest.raises(BlipError, match=r"t\.parquet cannot be read"):
        column_names(path)


def test_an_unknown_form_is_named(tmp_path: Path) -> None:
    write(tmp_path / "t.xlsx", "")
    with pytest.raises(BlipError, match=r"ends in \.csv, \.tsv, \.jsonl, \.json, \.parquet, not in '\.xlsx'"):
        list(read_rows(tmp_path / "t.xlsx"))
