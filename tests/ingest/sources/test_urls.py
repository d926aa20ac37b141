"""Lists of URLs in every form, row by row."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.config import Columns, Source
from blip.errors import BlipError
from blip.ingest.sources import read
from blip.ingest.sources.refused import Refused
from blip.ingest.sources.urls import Address, is_url_list, read_rows

ROWS = [
    ("http://a.org/1.jpg", "a cat"),
    ("http://a.org/2.jpg", "zwei Äpfel, “ripe”"),
    ("https://b.org/3", "a\tdog"),
]
WANTED = [
    Address("000000000", "http://a.org/1.jpg", "a cat"),
    Address("000000001", "http://a.org/2.jpg", "zwei Äpfel, “ripe”"),
    Address("000000002", "https://b.org/3", "a dog"),
]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_blips_published_lists_are_read(tmp_path: Path) -> None:
    rows = [{"url": url, "caption": caption} for url, caption in ROWS]
    assert list(read_rows(write(tmp_path / "ccs_filtered.json", json.dumps(rows)))) == WANTED


def test_every_caption_of_a_row_is_read(tmp_path: Path) -> None:
    captions = {
        "1": ["a cat", "a  <b>pet</b>", "a cat", None],
        "2": [{"raw": "a dog"}],
        "3": [],
        "4": "one\ntext",
    }
    rows = [{"url": f"http://a.org/{name}.jpg", "captions": texts} for name, texts in captions.items()]
    found = list(read_rows(write(tmp_path / "list.json", json.dumps(rows))))
    assert [item.captions for item in found if isinstance(item, Address)] == [
        ["a cat", "a pet"],
        ["a dog"],
        ["one text"],
    ]
    assert [item.reason for item in found if isinstance(item, Refused)] == ["no_caption"]
    lists = pa.table({"url": ["http://a.org/1.jpg"], "captions": [["a cat", "a pet"]]})
    pq.write_table(lists, tmp_path / "list.parquet")
    (row,) = read_rows(tmp_path / "list.parquet")
    assert row == Address("000000000", "http://a.org/1.jpg", "a cat\na pet")


def test_json_lines_are_read_and_broken_ones_counted(tmp_path: Path) -> None:
    lines = [json.dumps({"URL": url, "TEXT": caption}) for url, caption in ROWS]
    lines.insert(1, '{"url": "http://a.org/x.jpg", "caption": "cut o')
    items = list(read_rows(write(tmp_path / "list.jsonl", "\n".join(lines))))
    refused = [item for item in items if isinstance(item, Refused)]
    assert [(item.key, item.reason) for item in refused] == [("000000001", "broken_row")]
    assert "list.jsonl, line 2: not JSON" in refused[0].detail
    assert [item.caption for item in items if isinstance(item, Address)] == [row.caption for row in WANTED]


def test_laions_parquet_is_read(tmp_path: Path) -> None:
    table = pa.table({"SAMPLE_ID": [1, 2, 3], "URL": [r[0] for r in ROWS], "TEXT": [r[1] for r in ROWS]})
    pq.write_table(table, tmp_path / "part-00000.snappy.parquet")
    assert list(read_rows(tmp_path / "part-00000.snappy.parquet")) == WANTED


def test_conceptual_captions_have_no_header(tmp_path: Path) -> None:
    rows = "".join(f"{caption}\t{url}\n" for url, caption in ROWS[:2])
    assert list(read_rows(write(tmp_path / "Train_GCC-training.tsv", rows))) == WANTED[:2]


def test_a_csv_with_a_header_and_a_short_row(tmp_path: Path) -> None:
    rows = ["id,image_url,alt", "1,http://a.org/1.jpg,a cat", "2,http://a.org/x.jpg"]
    text = "\n".join([*rows, '3,http://a.org/2.jpg,"zwei Äpfel, “ripe”"'])
    items = list(read_rows(write(tmp_path / "list.csv", text)))
    assert [item.url for item in items if isinstance(item, Address)] == [
        "http://a.org/1.jpg",
        "http://a.org/2.jpg",
    ]
    (refused,) = (item for item in items if isinstance(item, Refused))
    assert (refused.key, refused.reason) == ("000000001", "broken_row")
    assert "list.csv, line 3: 2 fields, the header has 3" in refused.detail


def test_rows_without_url_or_caption_are_counted(tmp_path: Path) -> None:
    rows = [{"url": "", "caption": "x"}, {"url": "http://a.org/1.jpg", "caption": "  "}, {"caption": "x"}, 5]
    items = list(read_rows(write(tmp_path / "list.json", json.dumps(rows))))
    assert [getattr(item, "reason", "") for item in items] == [
        "no_url",
        "no_caption",
        "broken_row",
        "broken_row",
    ]


def test_the_lists_of_a_folder_are_one(tmp_path: Path) -> None:
    for number, (url, caption) in enumerate(ROWS):
        write(tmp_path / f"part-{number}.json", json.dumps([{"url": url, "caption": caption}]))
    write(tmp_path / "README.md", "not a list")
    assert list(read_rows(tmp_path)) == WANTED


def test_a_list_without_such_columns_names_those_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"picture": ["x"], "text": ["y"]}), tmp_path / "list.parquet")
    with pytest.raises(BlipError, match=r"usual name of the URL \(url, image_url.*it has: picture, text"):
        list(read_rows(tmp_path / "list.parquet"))
    with pytest.raises(BlipError, match="usual name of the URL"):
        list(read_rows(write(tmp_path / "list.csv", "a,b\nc,d\n")))


def test_a_list_that_is_cut_says_so_before_anything_is_fetched(tmp_path: Path) -> None:
    cut = '[{"url": "http://a.org/1.jpg", "caption": "a cat"}, {"url": "htt'
    with pytest.raises(BlipError, match=r"list\.json does not end with the \] of a list: it was cut"):
        next(read_rows(write(tmp_path / "list.json", cut)))
    pq.write_table(pa.table({"url": ["http://a.org/1.jpg"], "caption": ["x"]}), tmp_path / "list.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "list.parquet").read_bytes()[:-20])
    (tmp_path / "list.json").unlink()
    (tmp_path / "cut.parquet").rename(tmp_path / "z.parquet")  # behind a list that is whole
    for place in (tmp_path / "z.parquet", tmp_path):
        with pytest.raises(
            BlipError, match=r"z\.parquet does not end with the PAR1 of a Parquet file: it was cut"
        ):
            next(read_rows(place))
    (tmp_path / "z.parquet").unlink()
    write(tmp_path / "z.json", cut)
    with pytest.raises(BlipError, match=r"z\.json does not end with the \] .* take it away to do without it"):
        next(read_rows(tmp_path))


def test_json_lines_may_be_called_json(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"url": url, "caption": caption}) for url, caption in ROWS)
    assert list(read_rows(write(tmp_path / "list.json", lines))) == WANTED
    assert list(read_rows(write(tmp_path / "list.ndjson", lines))) == WANTED


def test_a_quote_in_a_caption_swallows_no_other_row(tmp_path: Path) -> None:
    text = (
        '"cat\thttp://a.org/1.jpg\ndog "of" ours\thttp://a.org/2.jpg\nbird\0\thttp://a.org/3.jpg\na\tb\tc\n'
    )
    items = list(read_rows(write(tmp_path / "cc.tsv", text)))
    assert [getattr(item, "caption", None) for item in items] == ['"cat', 'dog "of" ours', "bird\0", None]
    assert items[3] == Refused(
        "000000003", "broken_row", "cc.tsv, line 4: 3 fields, not a URL and a caption", b"a\tb\tc\n"
    )


def test_a_broken_row_in_a_table_is_not_the_end_of_it(tmp_path: Path) -> None:
    text = 'url,caption\nhttp://a.org/1.jpg,"open\nhttp://a.org/2.jpg,b\nhttp://a.org/3.jpg,c\n'
    items = list(read_rows(write(tmp_path / "list.csv", text)))
    assert [getattr(item, "caption", item) for item in items[1:]] == ["b", "c"]
    assert isinstance(items[0], Refused) and items[0].reason == "broken_row"


def test_broken_utf8_in_json_and_parquet_costs_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"url": "http://a.org/1.jpg", "caption": "caf\xe9"}]')
    broken = pa.array([b"caf\xe9"]).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"url": ["http://a.org/1.jpg"], "caption": broken}), tmp_path / "b.parquet")
    for name in ("a.json", "b.parquet"):
        assert list(read_rows(tmp_path / name)) == [Address("000000000", "http://a.org/1.jpg", "caf\ufffd")]


def test_columns_of_other_names_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "Adresse,Titel\nhttp://a.org/1.jpg,a cat\n")
    assert list(read_rows(path, Columns(image="Adresse", caption="Titel"))) == WANTED[:1]
    mixed = write(tmp_path / "mixed.csv", "Image_URL,Alt_Text\nhttp://a.org/1.jpg,a cat\n")
    assert list(read_rows(mixed)) == WANTED[:1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.txt", "http://a.org/1.jpg\n", "1 columns, a URL among them"),
        ("list.tsv", "1\thttp://a.org/1.jpg\tx\n", "3 columns, a URL among them"),
        ("list.txt", "a\n", "its lines are not a URL and a caption"),
        ("list.csv.gz", "", r"list\.csv\.gz is packed; unpack it"),
    ],
)
def test_lists_that_cannot_be_read_say_why(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(BlipError, match=message):
        next(read_rows(write(tmp_path / name, text)))


def test_broken_utf8_in_a_table_costs_a_character_not_the_list(tmp_path: Path) -> None:
    (tmp_path / "list.tsv").write_bytes(b"url\tcaption\nhttp://a.org/1.jpg\tcaf\xe9\nhttp://a.org/2.jpg\tb\n")
    assert [item.caption for item in read_rows(tmp_path / "list.tsv") if isinstance(item, Address)] == [
        "caf�",
        "b",
    ]


def test_a_list_is_known_by_its_first_row(tmp_path: Path) -> None:
    assert is_url_list(write(tmp_path / "a.json", '[{"url": "http://a.org/1.jpg", "caption": "x"}]'))
    assert not is_url_list(write(tmp_path / "b.csv", "image,caption\na.jpg,a cat\n"))
    assert not is_url_list(tmp_path / "missing.json")


def test_lists_with_the_same_pictures_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def listed(name: str, numbers: range) -> Source:
        lines = [f"http://a.org/{number}.jpg\t{name} {number}\n" for number in numbers]
        (tmp_path / name).parent.mkdir(exist_ok=True)
        return Source(
            source=str(write(tmp_path / name, "".join(lines))), kind="urls", origin="web", role="train"
        )

    one, part = listed("one/a.tsv", range(100)), listed("one/b.tsv", range(95, 200))
    read([one])
    read([one, part])  # a few in common are what lists of the web have
    read([one.model_copy(update={"source": str(tmp_path / "one")})])
    assert "note" not in capsys.readouterr().err
    other = listed("two/c.tsv", range(50, 150))
    read([one, other])
    told = capsys.readouterr().err
    assert told.startswith(f"note: {other.source} has pictures of {one.source}: each row is a sample")
    listed("one/c.tsv", range(50, 150))
    read([one.model_copy(update={"source": str(tmp_path / "one")})])
    assert f"{tmp_path}/one/c.tsv has pictures of {one.source}" in capsys.readouterr().err
