"""Tables given as a file or a folder: which columns, in what order, what is refused."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.errors import BlipError
from blip.ingest.sources import table
from blip.ingest.sources.guess import kind_of
from blip.ingest.sources.refused import key_of
from tests.data.conftest import draw, encoded

from .reading import details, items, reasons, samples, texts, write, write_table, write_tar


def test_a_file_is_read_with_names_relative_to_it_or_to_the_images(tmp_path: Path) -> None:
    write(tmp_path / "lists/train.tsv", "Filepath\tTitle", "a.png\tone")
    write(tmp_path / "lists/a.png", "beside")
    write(tmp_path / "pool/a.png", "pool")
    beside = items(tmp_path / "lists/train.tsv", "table")
    pool = items(tmp_path / "lists/train.tsv", "table", images=str(tmp_path / "pool"))
    assert [s.media for s in samples(beside).values()] == [b"beside\n"]
    assert [s.media for s in samples(pool).values()] == [b"pool\n"]
    with pytest.raises(BlipError, match=r"nowhere: no such folder; check `images`"):
        items(tmp_path / "lists/train.tsv", "table", images=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("image", "caption"),
    [
        ("image", "caption"),
        ("image_path", "TEXT"),
        ("file_name", "text"),
        ("jpg", "alt_text"),
        ("Path", "title"),
    ],
)
def test_usual_columns_are_found(tmp_path: Path, image: str, caption: str) -> None:
    write(tmp_path / "t.csv", f"width,{caption},{image}", "40,one,a.png")
    write(tmp_path / "a.png", "A")
    assert texts(samples(items(tmp_path / "t.csv", "table"))["a"]) == [("one", "web")]


def test_other_columns_are_named_by_the_settings(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "photograph,words,caption", "a.png,one,two")
    write(tmp_path / "a.png", "A")
    columns = {"image": "photograph", "caption": "words"}
    assert texts(samples(items(tmp_path / "t.csv", "table", columns=columns))["a"]) == [("one", "web")]
    with pytest.raises(BlipError) as caught:
        items(tmp_path / "t.csv", "table")
    message = str(caught.value)
    assert "t.csv: no column has a usual name of the image (image, image_path, image_file, ...)" in message
    assert "it has: photograph, words, caption" in message
    assert "columns: {image: NAME} in params.yaml, --column image=NAME with blip ingest" in message
    with pytest.raises(BlipError, match=r"no column 'word'; it has: photograph, words, caption"):
        items(tmp_path / "t.csv", "table", columns={"image": "photograph", "caption": "word"})
    write(tmp_path / "urls.csv", "url,text", "http://a/b.png,one")
    with pytest.raises(BlipError, match="url has addresses, which --kind urls reads"):
        items(tmp_path / "urls.csv", "table")


def test_published_lists_of_captions_are_read(tmp_path: Path) -> None:
    rows = [
        {"image": "val2014/a.jpg", "caption": ["one", "two"]},
        {"caption": "three", "image": "val2014/b.jpg", "image_id": "coco_7"},
    ]
    (tmp_path / "coco_karpathy_val.json").write_text(json.dumps(rows))
    write(tmp_path / "coco/val2014/a.jpg", "A")
    write(tmp_path / "coco/val2014/b.jpg", "B")
    found = samples(
        items(tmp_path / "coco_karpathy_val.json", "table", "human", images=str(tmp_path / "coco"))
    )
    assert texts(found[key_of("val2014/a.jpg")]) == [("one", "human"), ("two", "human")]
    assert texts(found[key_of("val2014/b.jpg")]) == [("three", "human")]


def test_pictures_may_stand_in_a_parquet_table(tmp_path: Path) -> None:
    one, two = encoded(draw(1)), encoded(draw(2), "jpg")
    structs = [
        {"image": {"bytes": one, "path": None}, "text": "one"},
        {"image": {"bytes": one, "path": None}, "text": "uno"},
        {"image": {"bytes": two, "path": "x.png"}, "text": "two"},
        {"image": None, "text": "nothing"},
        {"image": {"bytes": b"<html>", "path": None}, "text": "page"},
    ]
    pq.write_table(pa.Table.from_pylist(structs), tmp_path / "pool.parquet")
    found = items(tmp_path / "pool.parquet", "table")
    assert [(s.key, s.media, s.extension, texts(s)) for s in samples(found).values()] == [
        ("pool-00000001", one, "png", [("one", "web"), ("uno", "web")]),
        ("pool-00000003", two, "jpg", [("two", "web")]),
    ]
    assert reasons(found) == {"pool-00000004": "no_image", "pool-00000005": "unsupported"}
    pq.write_table(pa.table({"image_bytes": [two], "caption": ["two"]}), tmp_path / "raw.parquet")
    assert list(samples(items(tmp_path / "raw.parquet", "table"))) == ["raw-00000001"]


@pytest.mark.parametrize("kind", ["table", "urls"])
def test_it_is_told_which_of_two_columns_of_texts_the_captions_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    image, cell = {"table": ("image", "a.png"), "urls": ("image_link", "https://example.org/a.png")}[kind]
    write(tmp_path / "feed.csv", f"{image},title,description", f"{cell},a cup,a cup of blue clay")
    (tmp_path / "a.png").write_bytes(encoded(draw(1)))

    assert len(items(tmp_path / "feed.csv", kind)) == 1
    assert (
        items(tmp_path / "feed.csv", kind)
        and (
            f"note: the captions of {tmp_path}/feed.csv are its column title; also there: description (--column "
            "caption=description; `columns: {caption: description}` in params.yaml)\n"
        )
        == capsys.readouterr().err
    )
    items(tmp_path / "feed.csv", kind, columns={"caption": "description"})
    assert capsys.readouterr().err == ""


def test_of_two_tables_in_a_folder_it_is_told_which_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a.png,a cup")
    write(tmp_path / "captions.tsv", "image\tcaption", "a.png\ta blue cup")
    (tmp_path / "a.png").write_bytes(encoded(draw(1)))

    assert texts(samples(items(tmp_path, "table"))["a"]) == [("a cup", "web")]
    assert f"note: {tmp_path}/captions.csv is read, and captions.tsv beside it not" in capsys.readouterr().err


def test_rows_of_an_image_that_stand_apart_are_gathered_at_the_first(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a,1", "a,2", "b,3", "a,4", "c,5", "b,6", "a,1")
    for name in "abc":
        write(tmp_path / f"{name}.png", name)
    found = samples(items(tmp_path, "table"))
    assert {key: [text for text, _ in texts(sample)] for key, sample in found.items()} == {
        "a": ["1", "2", "4"],
        "b": ["3", "6"],
        "c": ["5"],
    }


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_rows_that_stand_apart_are_gathered_wherever_the_column_of_images_stands(
    tmp_path: Path, extension: str
) -> None:
    rows = [{"id": n, "caption": f"text {n}", "image": name} for n, name in enumerate(["a.png", "b.png"] * 2)]
    write_table(tmp_path / f"captions.{extension}", rows)
    for name in ("a.png", "b.png"):
        write(tmp_path / name, "A")
    found = items(tmp_path, "table")
    assert reasons(found) == {}
    assert {key: [text for text, _ in texts(sample)] for key, sample in samples(found).items()} == {
        "a": ["text 0", "text 2"],
        "b": ["text 1", "text 3"],
    }


def test_only_the_captions_of_scattered_images_are_held(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    write(path, "image,caption", *(f"n{number // 5},text {number}" for number in range(1000)), "n7,again")
    gathered = table._gathered(path, ("image", "caption"))
    assert {name: list(found) for name, found in gathered.items()} == {
        "n7": ["text 35", "text 36", "text 37", "text 38", "text 39", "again"]
    }


def test_a_row_without_picture_and_a_picture_without_row_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a.png,one", ",two", "gone.png,three")
    for name in ("a.png", "stray.png", "deep/stray.jpg"):
        write(tmp_path / name, "A")
    found = items(tmp_path, "table")
    assert list(samples(found)) == ["a"]
    assert details(found) == [
        ("no_image", "row 3 has no picture"),
        ("missing_file", f"gone.png is listed, its file is not in {tmp_path}"),
        ("not_listed", f"deep/stray.jpg in {tmp_path} is in no row of captions.csv"),
        ("not_listed", f"stray.png in {tmp_path} is in no row of captions.csv"),
    ]
    assert len(items(tmp_path / "captions.csv", "table")) == 3  # a file does not claim the whole folder


def test_every_row_without_picture_is_counted_wherever_it_stands(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a.png,one", ",two", "b.png,three", ",four", ",two")
    for name in ("a.png", "b.png"):
        write(tmp_path / name, "A")
    found = items(tmp_path, "table")
    assert list(samples(found)) == ["a", "b"]
    assert details(found) == [("no_image", f"row {number} has no picture") for number in (3, 5, 6)]


def test_every_row_without_picture_is_counted_beside_a_tar_too(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a.png,one", ",two", "b.png,three", ",four", ",two")
    write_tar(tmp_path / "images.tar", {"a.png": b"A", "b.png": b"B"})
    found = items(tmp_path, "table")
    assert list(samples(found)) == ["a", "b"]
    assert details(found) == [("no_image", f"row {number} has no picture") for number in (3, 5, 6)]
    assert reasons(found) == {f"captions-{number:08d}": "no_image" for number in (3, 5, 6)}


def test_broken_rows_are_refused_and_the_others_read(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a.png,one", "b.png", 'c.png,"two', "b.png,three")
    for name in ("a.png", "b.png"):
        write(tmp_path / name, "A")
    found = items(tmp_path, "table")
    assert list(samples(found)) == ["a", "b"]
    assert reasons(found) == {"captions-line-3": "broken_row", "captions-line-4": "broken_row"}


@pytest.mark.parametrize("extension", ["csv", "tsv"])
def test_a_first_row_that_names_no_columns_is_not_advised_away(tmp_path: Path, extension: str) -> None:
    rows = [{"v0.webp": "v1.webp", "padlock": "a red apple"}]
    write_table(tmp_path / f"captions.{extension}", rows)
    with pytest.raises(BlipError) as caught:
        items(tmp_path, "table")
    assert "it has: v0.webp, padlock" in str(caught.value)
    assert str(caught.value).endswith(
        "; or, if that is no line of names, write one above it, as image,caption"
    )
    write_table(tmp_path / f"captions.{extension}", [{"image": "v1.webp", "words": "a red apple"}])
    with pytest.raises(BlipError, match=r"--column caption=NAME with blip ingest$"):
        items(tmp_path, "table")


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl"])
def test_an_empty_table_is_said_to_be(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    for source in (tmp_path, tmp_path / name):
        with pytest.raises(BlipError, match=rf"{name}: it is empty, or has no row that can be read$"):
            items(source, "table")


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_a_table_without_rows_is_said_to_be(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"captions.{extension}"
    write_table(path, [{"image": "a.png", "caption": "one"}])
    if extension == "csv":
        write(path, "image,caption")
    else:
        pq.write_table(pq.read_table(path)[:0], path)
    write(tmp_path / "a.png", "A")
    for source in (tmp_path, path):
        with pytest.raises(
            BlipError, match=rf"captions\.{extension} has no rows, only the names of its columns"
        ):
            items(source, "table")


def test_two_files_with_one_key_are_told(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a.png,one", "a.jpg,two")
    write(tmp_path / "a.png", "A")
    write(tmp_path / "a.jpg", "B")
    found = items(tmp_path, "table")
    assert [s.media for s in samples(found).values()] == [b"A\n"]
    assert [(item.key, item.reason) for item in found[1:]] == [("a", "duplicate")]


def test_an_absolute_name_may_lead_into_the_folder_only(tmp_path: Path) -> None:
    write(tmp_path / "in/a.png", "A")
    write(tmp_path / "out.png", "B")
    write(tmp_path / "in/t.csv", "image,caption", f"{tmp_path}/in/a.png,one", f"{tmp_path}/out.png,two")
    found = items(tmp_path / "in/t.csv", "table")
    assert list(samples(found)) == ["a"]
    assert details(found) == [
        ("unsafe_member", f"{tmp_path}/out.png leads out of {tmp_path}/in{way_in(tmp_path)}")
    ]
    assert len(samples(items(tmp_path / "in/t.csv", "table", images=str(tmp_path)))) == 2
    (tmp_path / "link").symlink_to(tmp_path / "in")
    write(tmp_path / "t.csv", "image,caption", f"{tmp_path}/link/a.png,one")
    assert list(samples(items(tmp_path / "t.csv", "table", images=str(tmp_path / "link")))) == ["a"]


def way_in(folder: Path) -> str:
    return f": name the folder that has all pictures, as {folder}, with --images (`images` in params.yaml)"


@pytest.mark.parametrize("images", [".", "photos"])
def test_a_name_may_climb_from_the_table_or_the_images_into_what_was_named(
    tmp_path: Path, images: str
) -> None:
    rows = (
        "../photos/a.png,one",
        "deep/../b.png,two",
        "..\\photos\\c,three",
        "../lists/../photos/d.png,four",
    )
    write(tmp_path / "lists/train.csv", "image,caption", *rows)
    for name in ("photos/a", "photos/c", "photos/d", "photos/b" if images == "photos" else "b"):
        write(tmp_path / f"{name}.png", name)
    found = items(tmp_path / "lists/train.csv", "table", images=str(tmp_path / images))
    assert reasons(found) == {}
    assert [text for s in samples(found).values() for text, _ in texts(s)] == ["one", "two", "three", "four"]


def test_a_linked_folder_named_by_a_path_that_climbs_is_known_in_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (f"{tmp_path}/data/photos/a.png", "../data/photos/b.png", f"{tmp_path}/disk/photos/c.png")
    write(tmp_path / "lists/train.csv", "image,caption", *(f"{name},one" for name in (*names, "../d.png")))
    for name in "abc":
        write(tmp_path / f"disk/photos/{name}.png", name)
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path / "lists")
    found = items(Path("train.csv"), "table", images="../data/photos")
    assert list(samples(found)) == ["a", "b", "c"]
    assert details(found) == [("unsafe_member", f"../d.png leads out of ../data/photos{way_in(tmp_path)}")]


def test_a_name_or_a_link_that_leads_out_of_what_was_named_is_refused_with_the_way(tmp_path: Path) -> None:
    names = (
        "../../a.png",
        "../photos/../../a.png",
        "/etc/a.png",
        "../named/link.png",
        "../named2/a.png",
        "//etc/a.png",
        "..",
    )
    write(tmp_path / "x/lists/train.csv", "image,caption", *(f"{name},one" for name in names))
    for name in ("a.png", "x/named2/a.png", "x/named/b.png"):
        write(tmp_path / name, "A")
    (tmp_path / "x/named/link.png").symlink_to(tmp_path / "a.png")
    named = tmp_path / "x/named"
    found = items(tmp_path / "x/lists/train.csv", "table", images=str(named))
    assert set(reasons(found).values()) == {"unsafe_member"} and not samples(found)
    assert [detail for _, detail in details(found)][:4] == [
        f"../../a.png leads out of {named}{way_in(tmp_path)}",
        f"../photos/../../a.png leads out of {named}{way_in(tmp_path)}",
        f"/etc/a.png leads out of {named}{way_in(Path('/etc'))}",
        f"../named/link.png is a link that leads out of {named}{way_in(tmp_path)}",
    ]
    write(tmp_path / "x/lists/train.csv", "image,caption", "../../a.png,one", "../named/link.png,two")
    assert len(samples(items(tmp_path / "x/lists/train.csv", "table", images=str(tmp_path)))) == 2


def test_an_address_among_the_names_is_told(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "image,caption", "https://a.org/1.jpg,one")
    ((reason, detail),) = details(items(tmp_path / "t.csv", "table"))
    assert (reason, detail) == (
        "missing_file",
        "https://a.org/1.jpg is an address; read the table with --kind urls --column image=NAME",
    )


@pytest.mark.parametrize("name", [".", "./", "./."])
def test_the_name_of_the_folder_itself_is_no_picture(tmp_path: Path, name: str) -> None:
    write(tmp_path / "captions.csv", "image,caption", f"{name},one", "a.png,two")
    write(tmp_path / "a.png", "A")
    found = items(tmp_path, "table")
    assert list(samples(found)) == ["a"]
    assert details(found) == [("unsafe_member", ". is no file's name")]


SPELLINGS = {  # as the file is called, as the table has it
    "caf\u00e9.png": "cafe\u0301.png",
    "cafe\u0301 2.png": "caf\u00e9 2.png",
    "sub/b.png": "sub\\b.png",
    "c.png": "./c.png",
    "D.PNG": "d.png",
    "Deep/Down/e.png": "deep/down/E.png",
    "f.JPG": "f",
}


@pytest.mark.parametrize("tar", [False, True])
def test_other_spellings_of_a_name_are_found(tmp_path: Path, tar: bool) -> None:
    write(tmp_path / "captions.csv", "image,caption", *(f"{name},{file}" for file, name in SPELLINGS.items()))
    if tar:
        write_tar(tmp_path / "images.tar", {name: name.encode() for name in SPELLINGS})
    for name in () if tar else SPELLINGS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = items(tmp_path, "table")
    assert reasons(found) == {}
    assert {s.media.decode(): texts(s)[0][0] for s in samples(found).values()} == {n: n for n in SPELLINGS}


@pytest.mark.parametrize("tar", [False, True])
def test_rows_of_one_name_in_two_spellings_are_one_sample(tmp_path: Path, tar: bool) -> None:
    rows = ("./a.png,one", "b.png,two", "a.png,three", "cafe\u0301.png,x", "b.png,four", "caf\u00e9.png,y")
    write(tmp_path / "captions.csv", "image,caption", *rows)
    files = {name: name.encode() for name in ("a.png", "b.png", "caf\u00e9.png")}
    if tar:
        write_tar(tmp_path / "images.tar", files)
    for name in () if tar else files:
        write(tmp_path / name, name)
    found = items(tmp_path, "table")
    assert reasons(found) == {}
    captions = [[text for text, _ in texts(sample)] for sample in samples(found).values()]
    assert captions == [["one", "three"], ["two", "four"], ["x", "y"]]


def test_half_a_surrogate_pair_names_no_folder(tmp_path: Path) -> None:
    write_table(
        tmp_path / "t.jsonl", [{"image": f"{folder}/a.png", "caption": "one"} for folder in ("\ud83d", ".")]
    )
    write(tmp_path / "a.png", "A")
    found = items(tmp_path / "t.jsonl", "table")
    assert list(samples(found)) == ["a"] and [reason for reason, _ in details(found)] == ["missing_file"]


def test_a_name_that_is_nearly_there_is_told(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "red_aple.png,one", "n7.png,two", "sub/zebra.jpg,three")
    for name in ("red_apple.png", "n8.png", "sub/y.jpg"):
        write(tmp_path / name, "A")
    found = [detail for reason, detail in details(items(tmp_path, "table")) if reason == "missing_file"]
    assert found == [
        f"red_aple.png is listed, its file is not in {tmp_path}; red_apple.png is",
        f"n7.png is listed, its file is not in {tmp_path}",
        f"sub/zebra.jpg is listed, its file is not in {tmp_path}",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Tasse%20blau.jpg", "; Tasse blau.jpg is: the name is URL-encoded"),
        ("a0.jpg|a1.jpg", "; the cell names 2 pictures: write a row for each"),
        ("a0.jpg|gone.jpg", ""),
        ("x.jpg", "; x.jpg is a folder"),
        ("x" * 300 + ".jpg", ""),
    ],
)
def test_what_a_name_that_is_not_there_may_mean_is_told(tmp_path: Path, name: str, said: str) -> None:
    for there in ("Tasse blau.jpg", "a0.jpg", "a1.jpg"):
        (tmp_path / there).write_bytes(encoded(draw(1), "jpg"))
    (tmp_path / "x.jpg").mkdir()
    write_table(tmp_path / "captions.jsonl", [{"image": name, "caption": "a cup"}])

    assert ("missing_file", f"{name} is listed, its file is not in {tmp_path}{said}") in details(
        items(tmp_path, "table")
    )


@pytest.mark.parametrize(
    ("folder", "file", "said"),
    [
        ("C:\\Users\\Anna\\Bilder\\", "a0.jpg", "write a0.jpg"),
        ("\\\\nas\\Bilder\\", "a0.jpg", "write a0.jpg"),
        ("/home/nobody/there/", "a0.jpg", "write a0.jpg"),
        ("D:/Bilder/", "gone.jpg", "write it as from {} on"),
    ],
)
def test_an_absolute_path_of_another_machine_is_told_as_one(
    tmp_path: Path, folder: str, file: str, said: str
) -> None:
    (tmp_path / "a0.jpg").write_bytes(encoded(draw(1), "jpg"))
    write_table(tmp_path / "captions.jsonl", [{"image": folder + file, "caption": "a cup"}])

    [(reason, detail), *_] = details(items(tmp_path, "table"))
    assert reason == "unsafe_member"
    assert detail.endswith(f" is an absolute path of another machine: {said.format(tmp_path)}")


def test_names_that_are_nearly_there_are_looked_for_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs a look at all names of its folder: of a million names that would be days."""
    monkeypatch.setattr("blip.ingest.sources.names.NEAR", 2)
    rows = [f"{name}_aple.png,one" for name in ("red", "blue", "green")]
    write(tmp_path / "captions.csv", "image,caption", *rows)
    for name in ("red", "blue", "green"):
        write(tmp_path / f"{name}_apple.png", "A")
    found = [detail for reason, detail in details(items(tmp_path, "table")) if reason == "missing_file"]
    assert [detail.endswith("_apple.png is") for detail in found] == [True, True, False]
    monkeypatch.setattr("blip.ingest.sources.names.LARGE", 2)
    found = [detail for reason, detail in details(items(tmp_path, "table")) if reason == "missing_file"]
    assert not any(detail.endswith("_apple.png is") for detail in found)


def test_two_files_alike_but_for_their_case_are_not_guessed_between(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a.png,one", "B.png,two")
    for name in ("A.png", "a.PNG", "B.png", "b.png"):
        write(tmp_path / name, name)
    found = items(tmp_path / "captions.csv", "table")
    assert [s.media for s in samples(found).values()] == [b"B.png\n"]
    assert [reason for reason, _ in details(found)] == ["missing_file"]


def test_a_name_that_several_folders_have_is_not_guessed_between(tmp_path: Path) -> None:
    rows = ("1.png,one", "cats/2.png,two", "N3.png,three", "4,four")
    write(tmp_path / "captions.csv", "image,caption", *rows)
    for name in ("cats/1", "dogs/1", "cats/2", "dogs/2", "cats/n3", "dogs/n3", "dogs/4"):
        write(tmp_path / f"{name}.png", name)
    (tmp_path / "linked").symlink_to(tmp_path / "dogs")
    found = items(tmp_path / "captions.csv", "table")
    assert [sample.media for sample in samples(found).values()] == [b"cats/2\n", b"dogs/4\n"]
    told = "folders of {}, as cats/{}.png, dogs/{}.png: write it with its folder"
    assert details(found) == [
        ("missing_file", f"1.png is in 3 {told.format(tmp_path, 1, 1)}"),
        ("missing_file", f"N3.png is in 3 {told.format(tmp_path, 'n3', 'n3')}"),
    ]


def test_a_tar_that_was_packed_with_its_folder_is_joined_by_base_names(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a.png,one", "b,two", "c.png,three")
    names = ("photos/a.png", "photos/b.jpg", "photos/c.png", "other/c.png", "photos/d.png")
    write_tar(tmp_path / "images.tar", {name: name.encode() for name in names})
    found = items(tmp_path, "table")
    assert {key: s.media for key, s in samples(found).items()} == {"a": b"photos/a.png", "b": b"photos/b.jpg"}
    assert [reason for reason, _ in details(found)] == ["not_listed"] * 3 + ["missing_file"]


def test_an_object_is_no_table_and_says_where_its_list_is(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "caption": "one"}, {"image": "b.png", "caption": "two"}]
    path = tmp_path / "t.json"
    for value, told in (
        ({"version": 1, "data": rows}, "this is an object, whose list stands at 'data'"),
        (
            {"a.png": "one", "b.png": "two"},
            "with the keys 'a.png', ...: write {\"image\": 'a.png', \"caption\": ...}",
        ),
    ):
        for indent in (None, 1):
            path.write_text(json.dumps(value, indent=indent))
            with pytest.raises(BlipError) as caught:
                items(path, "table")
            assert "t.json: a JSON table is a list of objects, [{...}, ...]; this is an object" in str(
                caught.value
            )
            assert told in str(caught.value)
            with pytest.raises(BlipError, match="a JSON table is a list of objects"):
                kind_of(path)
            with pytest.raises(BlipError, match="a JSON table is a list of objects"):
                items(path, "urls")
    path.write_text("\n".join(map(json.dumps, rows)))
    write(tmp_path / "a.png", "A")
    write(tmp_path / "b.png", "B")
    assert list(samples(items(path, "table"))) == ["a", "b"]
