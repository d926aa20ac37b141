"""Broken rows of a table are refused one by one, with their lines; the rows around them are read."""

import csv
import io
import json
import resource
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.errors import BlipError
from blip.ingest.sources.json_stream import _Repaired
from blip.ingest.sources.refused import Refused
from blip.ingest.sources.row import Row
from blip.ingest.sources.rows import column_names, read_rows
from blip.ingest.sources.separated import FIELD_LIMIT, QUOTED_LINES

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


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_lines_of_empty_fields_are_no_rows(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "t.csv"
    empty = (separator, separator * 2, "", f" {separator}")
    write(path, f"image{separator}caption", f"a{separator}one", *empty, f"b{separator}two", *empty * 20)
    assert rows(path) == [(2, ["a", "one"]), (7, ["b", "two"])]
    assert broken(path) == []


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_excels_line_that_names_the_separator_is_no_header(
    tmp_path: Path, separator: str, quote: str
) -> None:
    path = tmp_path / "t.csv"
    write(path, f"{quote}sep={separator}{quote}", f"image{separator}caption", f"a{separator}one", "b")
    assert column_names(path) == ["image", "caption"]
    assert rows(path) == [(3, ["a", "one"])]
    assert [detail.partition(":")[0] for _, detail in broken(path)] == ["t.csv, line 4"]


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


def test_a_quote_in_a_tsv_that_a_later_one_closes_swallows_no_row(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    write(path, "image\tcaption", 'a\t"Mona Lisa', "b\ta dog", "c\ta cat", "d\tdoor 5' 10\"", "e\tlast")
    captions = ['"Mona Lisa', "a dog", "a cat", "door 5' 10\"", "last"]
    assert rows(path) == [
        (n, [name, text]) for n, name, text in zip(range(2, 7), "abcde", captions, strict=True)
    ]
    write(path, "image\tcaption", 'a\t"one', 'and two"', "b\tthree")
    assert rows(path) == [(2, ["a", "one\nand two"]), (4, ["b", "three"])]


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


HALVES = {  # as JSON writes it, as it is read
    r"\ud83d": "\ufffd",
    r"\ude00": "\ufffd",
    r"\uDE00\uD83D": "\ufffd\ufffd",
    r"\ud83d\ude00": "\U0001f600",
    r"\\ud83d": r"\ud83d",
    r"\\\ud83d\n": "\\\ufffd\n",
}


def test_half_a_surrogate_pair_in_a_json_list_costs_its_own_text(tmp_path: Path) -> None:
    texts = [f'{{"image": "a", "caption": "{text}"}}' for text in HALVES]
    (tmp_path / "t.json").write_text(f"[{', '.join(texts)}]")
    assert [caption for _, (_, caption) in rows(tmp_path / "t.json")] == list(HALVES.values())


def test_an_escape_may_end_in_the_next_piece_of_a_json_file() -> None:
    text = " ".join(HALVES)
    for size in range(1, len(text)):
        file = _Repaired(io.BytesIO(text.encode()))
        pieces = iter(lambda file=file, size=size: file.read(size), b"")
        assert json.loads(b'"' + b"".join(pieces) + b'"') == " ".join(HALVES.values()), size


NOT_JSON = [float("nan"), float("inf"), -float("inf"), -1.5, "NaN, -Infinity", '\\"NaN\\', '": NaN', "ud\\"]


def test_numbers_that_json_lacks_are_read_as_no_value_from_a_list_as_from_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps([{"image": "a", "values": NOT_JSON}, {"image": "b", "caption": float("nan")}]))
    assert rows(path) == [(1, ["a", [None, None, None, *NOT_JSON[3:]]]), (2, ["b", None])]


def test_a_number_that_json_lacks_may_end_in_the_next_piece_of_a_file() -> None:
    text = json.dumps(NOT_JSON)
    for size in range(1, len(text)):
        file = _Repaired(io.BytesIO(text.encode()))
        pieces = iter(lambda file=file, size=size: file.read(size), b"")
        assert json.loads(b"".join(pieces)) == [None, None, None, *NOT_JSON[3:]], size


@pytest.mark.parametrize("number", ["18446744073709551615", "1e400"])
def test_a_number_that_is_too_large_is_named(tmp_path: Path, number: str) -> None:
    write(tmp_path / "t.json", f'[{{"image": "a"}}, {{"image": "b", "id": {number}}}]')
    with pytest.raises(
        BlipError, match=r"t\.json has a number that is too large after 1 values of item.*as a text"
    ):
        rows(tmp_path / "t.json")


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


def test_the_header_tells_what_separates_the_fields(tmp_path: Path) -> None:
    lines = {
        "excel.csv": ("image;caption;note", "a.png;red, round;1,5"),
        "tabs.csv": ("image\tcaption\tnote", "a.png\tred, round\t1,5"),
        "own.csv": ("Bild;Text;Notiz", "a.png;red, round;1,5"),
        "note.csv": ("image;caption;of whom, and where", "a.png;red, round;1,5"),
        "commas.tsv": ("image,caption,note", 'a.png,"red, round","1,5"'),
        "quoted.csv": ('image,caption,"a;note;of;many"', 'a.png,"red, round","1,5"'),
        "plain.csv": ("image,caption,note;more", 'a.png,"red, round","1,5"'),
    }
    for name, (header, row) in lines.items():
        write(tmp_path / name, header, row)
        assert rows(tmp_path / name) == [(2, ["a.png", "red, round", "1,5"])], name
        assert len(column_names(tmp_path / name)) == 3
    write(tmp_path / "one.csv", "image", "a.png")
    assert rows(tmp_path / "one.csv") == [(2, ["a.png"])]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_a_table_that_excel_wrote_is_read_in_its_encoding(tmp_path: Path, encoding: str) -> None:
    text = "image\tcaption\r\na.png\tein großer Apfel\r\n"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "t.csv").write_bytes((mark + text).encode(encoding))
    assert rows(tmp_path / "t.csv") == [(2, ["a.png", "ein großer Apfel"])]
    (tmp_path / "t.csv").write_bytes(text.encode("utf-16-le"))
    with pytest.raises(BlipError, match=r"t\.csv: its first row has zeros, as UTF-16 .*; save it as UTF-8"):
        rows(tmp_path / "t.csv")


def test_a_long_header_is_read_and_one_without_end_named(tmp_path: Path) -> None:
    csv.field_size_limit(131_072)  # what a new process has
    write(tmp_path / "t.csv", "image,caption," + "x" * 200_000, "a,one,1")
    assert column_names(tmp_path / "t.csv")[:2] == ["image", "caption"]
    assert rows(tmp_path / "t.csv") == [(2, ["a", "one", "1"])]
    write(tmp_path / "t.csv", "x" * (FIELD_LIMIT + 1))
    with pytest.raises(BlipError, match=r"t\.csv: its first row, .*, cannot be read: field larger than"):
        column_names(tmp_path / "t.csv")


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_a_column_that_is_there_twice_is_named(tmp_path: Path, extension: str) -> None:
    path, names = tmp_path / f"t.{extension}", ["image", "caption", "caption", "", ""]
    write(path, ",".join(names), "a,one,two,,")
    if extension == "parquet":
        pq.write_table(pa.Table.from_arrays([pa.array(["x"])] * 5, names=names), path)
    with pytest.raises(BlipError, match=r"more than one column is called caption; rename one of them"):
        list(read_rows(path, ["image", "caption"]))
    assert len(list(read_rows(path, ["image"]))) == 1


@pytest.mark.parametrize("extension", ["json", "jsonl"])
def test_values_nested_without_end_cost_their_row(tmp_path: Path, extension: str) -> None:
    deep, path = "[" * 5000 + "]" * 5000, tmp_path / f"t.{extension}"
    values = [
        '{"image": "a", "caption": "one"}',
        f'{{"image": "b", "caption": {deep}}}',
        deep,
        '{"image": "c"}',
    ]
    path.write_text(f"[{','.join(values)}]" if extension == "json" else "\n".join(values))
    assert rows(path) == [(1, ["a", "one"]), (4, ["c"])]
    assert [reason for reason, _ in broken(path)] == ["broken_row"] * 2


def test_a_table_that_cannot_be_opened_now_is_no_broken_one(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.png"]}), tmp_path / "a.parquet")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(BlipError, match=r"a\.parquet cannot be read: .*Too many open files"):
            list(read_rows(tmp_path / "a.parquet"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert rows(tmp_path / "a.parquet") == [(1, ["a.png"])]
