import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from blip.config import Ingest, Source, Vocabulary
from blip.data import archive, part
from blip.data.archive import add_member
from blip.data.decode import MAX_PIXELS, decode
from blip.data.pairs import PairsDataset, PairsWriter, Question
from blip.data.quarantine import read_quarantine
from blip.data.text import Tokenizer, train_tokenizer
from blip.errors import BlipError
from blip.ingest import shards
from blip.ingest.ingestion import ingest_dataset, plan_of, speed, write_vocabulary
from blip.ingest.references import References
from blip.ingest.shares import shares_of
from blip.inspection.verification import verify
from tests.data.conftest import draw, encoded, sample

SETTINGS = Ingest(samples_per_shard=8, max_bad_fraction=0.2, datasets={})


def make_source(path: Path, pictures: dict[str, bytes], role: str = "train") -> Source:
    """A `table` source with a caption for each picture."""
    path.mkdir(parents=True)
    rows = [f"{name},picture of {name.split('.')[0]}\n" for name in pictures]
    (path / "captions.csv").write_text("image,caption\n" + "".join(rows))
    with tarfile.open(path / "images.tar", "w") as tar:
        for name, data in pictures.items():
            add_member(tar, name, data)
    return Source.model_validate({"source": str(path), "kind": "table", "origin": "web", "role": role})


def good(count: int, first: int = 0) -> dict[str, bytes]:
    return {f"good-{n}.png": encoded(draw(n)) for n in range(first, first + count)}


def quarantine(dataset: PairsDataset) -> dict[str, str]:
    rows = pq.read_table(dataset.path / "quarantine/index.parquet").to_pylist()
    return {row["key"]: row["reason"] for row in rows}


def test_broken_pictures_among_good_ones_are_quarantined_and_counted(tmp_path: Path) -> None:
    jpeg = encoded(draw(99), "jpg")
    broken = {"cut.jpg": jpeg[:700], "page.png": b"<html>", "empty.png": b""}
    source = make_source(tmp_path / "source", {**good(6), **broken, **good(9, 6)})
    dataset = ingest_dataset(source, tmp_path / "out", SETTINGS)
    assert len(dataset) == 15
    assert verify(dataset) == []
    assert quarantine(dataset) == {"cut": "truncated", "page": "not_an_image", "empty": "empty"}
    assert dataset.manifest.quarantined == {"empty": 1, "not_an_image": 1, "truncated": 1}
    kept = {one.key: one.payload and one.payload.read() for one in read_quarantine(dataset.path)}
    assert kept == {"cut": jpeg[:700], "page": b"<html>", "empty": b""}


def test_two_in_a_hundred_are_set_aside_and_a_third_stops_it(tmp_path: Path) -> None:
    two = {"one.jpg": encoded(draw(99), "jpg")[:700], "two.png": b"<html>"}
    usual = Ingest(samples_per_shard=16, datasets={})
    dataset = ingest_dataset(make_source(tmp_path / "a", {**good(98), **two}), tmp_path / "out", usual)
    assert len(dataset) == 98
    assert quarantine(dataset) == {"one": "truncated", "two": "not_an_image"}
    source = make_source(tmp_path / "b", {**good(97), **two, "three.png": b""})
    with pytest.raises(BlipError, match=r"3 of 100 samples cannot be used.*max_bad_fraction = 0\.02"):
        ingest_dataset(source, tmp_path / "stopped", usual)
    assert not (tmp_path / "stopped").exists()


def test_too_many_broken_pictures_stop_it_with_the_figure(tmp_path: Path) -> None:
    broken = {f"bad-{n}.png": b"<html>" for n in range(3)}
    source = make_source(tmp_path / "source", {**good(9), **broken})
    with pytest.raises(BlipError) as caught:
        ingest_dataset(source, tmp_path / "out", SETTINGS)
    message = str(caught.value)
    assert "3 of 12 samples cannot be used (3 not_an_image)" in message
    assert "ingest.max_bad_fraction = 0.2" in message
    assert "bad-0: not_an_image, 6 bytes that begin with b'<html>'" in message
    assert not (tmp_path / "out").exists()
    raised = SETTINGS.model_copy(update={"max_bad_fraction": 0.25})
    assert len(ingest_dataset(source, tmp_path / "out", raised)) == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


@pytest.mark.parametrize("row", ["good-{}.png", "missing-{}.png,a thing", ",a thing {}"])
def test_a_row_and_a_picture_that_miss_each_other_are_one_loss(tmp_path: Path, row: str) -> None:
    source = make_source(tmp_path / "source", {})
    (tmp_path / "source/images.tar").unlink()
    for name, data in good(10).items():
        (tmp_path / "source" / name).write_bytes(data)
    table = tmp_path / "source/captions.csv"
    lost = [row.format(n) for n in range(2)]
    rows = [f"good-{n}.png,picture of {n}" for n in range(2, 10)]
    table.write_text("\n".join(("image,caption", *lost, *rows)))
    dataset = ingest_dataset(source, tmp_path / "out", SETTINGS)  # 2 of 10 are 0.2, and 4 of 12 were more
    assert dataset.manifest.quarantined["not_listed"] == 2
    assert shares_of(dataset, source.kind)[0].bad.total() == 2
    table.write_text("\n".join(("image,caption", *lost, *rows[1:])))
    with pytest.raises(BlipError, match=r"3 of 10 samples cannot be used \(2 \w+, 1 not_listed\)"):
        ingest_dataset(source, tmp_path / "over", SETTINGS)


def test_a_source_without_a_sample_is_refused(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", {})
    with pytest.raises(BlipError, match=r"captions\.csv has no rows, only the names of its columns"):
        ingest_dataset(source, tmp_path / "out", SETTINGS)
    (tmp_path / "empty").mkdir()
    empty = Source(source=str(tmp_path / "empty"), kind="folder", origin="web", role="train")
    with pytest.raises(BlipError, match=r"no sample is left of 0: .*/empty is an empty folder"):
        ingest_dataset(empty, tmp_path / "out", SETTINGS)


def test_pictures_beyond_the_size_limit_are_quarantined(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", {**good(8), "large.png": encoded(draw(0, 100, 100))})
    settings = SETTINGS.model_copy(update={"max_pixels": 40 * 40})
    dataset = ingest_dataset(source, tmp_path / "out", settings)
    assert quarantine(dataset) == {"large": "too_large"}
    (one,) = read_quarantine(dataset.path)
    assert one.detail == (
        "100 x 100 pixels, more than the 1,600 allowed; raise ingest.max_pixels, which can be 178,956,970, or make it "
        "smaller"
    )


def test_what_no_shard_is_read_for_is_refused_when_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gibibyte for short, of the same small pictures."""
    pictures = {**good(8), "large.png": encoded(draw(0, 100, 100))}
    limit = max(len(data) for name, data in pictures.items() if name != "large.png")
    assert len(pictures["large.png"]) > limit
    source = make_source(tmp_path / "source", pictures)
    for place in (archive, part, shards):
        monkeypatch.setattr(place, "MEMBER_LIMIT", limit)
    (tmp_path / "source/images.tar").unlink()
    for name, data in pictures.items():
        (tmp_path / "source" / name).write_bytes(data)
    dataset = ingest_dataset(source, tmp_path / "out", SETTINGS)
    assert verify(dataset) == []
    (one,) = read_quarantine(dataset.path)
    assert (one.key, one.reason, one.payload) == ("large", "too_large", None)
    assert one.detail.endswith(f"over the {limit:,} that a shard has in one; cut a film into clips")


def test_a_limit_of_pixels_that_would_not_be_kept_to_is_refused() -> None:
    assert Ingest(max_pixels=MAX_PIXELS, datasets={}).max_pixels == MAX_PIXELS
    with pytest.raises(ValueError, match="less than or equal to 178956970"):
        Ingest(max_pixels=MAX_PIXELS + 1, datasets={})


def deep(seed: int, low: float = 0, high: float = 4_095, kind: str = "u2", extension: str = "TIFF") -> bytes:
    """A grey picture of such numbers; its darkest and its lightest pixel are `low` and `high`."""
    grey = draw(seed)[..., 0] / 255
    grey.flat[:2] = 0, 1
    buffer = io.BytesIO()
    Image.fromarray((low + grey * (high - low)).astype(kind)).save(buffer, extension)
    return buffer.getvalue()


def test_pictures_of_12_bits_are_refused_with_the_way_out(tmp_path: Path) -> None:
    source = make_source(
        tmp_path / "source", {**good(3), "x-1.png": deep(1, extension="PNG"), "x-2.tif": deep(2)}
    )
    told = r"2 value_range.*x-1: value_range, grey values from 0 to 4,095, .* as grey_range: \[0, 4095\]"
    with pytest.raises(BlipError, match=f"(?s){told}"):
        ingest_dataset(source, tmp_path / "out", SETTINGS)


def test_with_a_grey_range_they_are_kept_in_8_bits_and_read_everywhere_alike(tmp_path: Path) -> None:
    units = {"hu.tif": deep(3, -1_000, 3_000, "i4"), "part.tif": deep(4, 0, 1, "f4")}
    source = make_source(
        tmp_path / "source", {**good(3), "x.png": deep(1, extension="PNG"), **units, "e.png": b""}
    )
    source = source.model_copy(update={"grey_range": (0.0, 4095.0)})
    dataset = ingest_dataset(source, tmp_path / "out", SETTINGS)
    assert verify(dataset) == []
    assert dataset.manifest.parameters["grey_range"] == [0, 4095]
    assert dataset.manifest.quarantined == {"empty": 1}
    samples = {sample.key: sample for sample in dataset.samples()}
    assert set(samples) == {"good-0", "good-1", "good-2", "x", "hu", "part"}
    assert {sample.extension for sample in samples.values()} == {"png"}
    stored = np.asarray(Image.open(io.BytesIO(samples["x"].media)))
    given = np.asarray(Image.open(io.BytesIO(deep(1))))
    assert np.array_equal(stored, np.rint(given.astype(float) * 255 / 4095))
    assert np.array_equal(decode(samples["x"].media)[..., 1], stored)
    assert all(samples[f"good-{n}"].media == encoded(draw(n)) for n in range(3))
    clipped = np.rint(np.asarray(Image.open(io.BytesIO(units["hu.tif"]))).clip(0, 4095) * 255 / 4095)
    assert np.array_equal(decode(samples["hu"].media)[..., 0], clipped)


def test_pictures_almost_wholly_beyond_the_grey_range_are_refused(tmp_path: Path) -> None:
    pictures = {
        **good(8),
        "x.png": deep(1),
        "wide.tif": deep(2, 4_000, 65_535),
        "low.tif": deep(3, -900, -9, "i4"),
    }
    source = make_source(tmp_path / "source", pictures).model_copy(update={"grey_range": (0.0, 4095.0)})
    dataset = ingest_dataset(source, tmp_path / "out", SETTINGS)
    assert quarantine(dataset) == {"wide": "value_range", "low": "value_range"}
    details = [one.detail for one in read_quarantine(dataset.path)]
    assert details[0].startswith("grey values from 4,000 to 65,535, of which 99% lie beyond")


def test_another_grey_range_makes_the_shards_anew_and_none_leaves_plan_and_manifest_as_they_were(
    tmp_path: Path,
) -> None:
    source = make_source(tmp_path / "source", good(3))
    plain = ingest_dataset(source, tmp_path / "plain", SETTINGS)
    assert "grey_range" not in plain.manifest.parameters
    ranged = source.model_copy(update={"grey_range": (0.0, 1.0)})
    assert "'grey_range'" not in str(plan_of([source], SETTINGS, None))
    assert plan_of([ranged], SETTINGS, None) != plan_of([source], SETTINGS, None)
    with pytest.raises(BlipError, match="must have one grey_range"):
        ingest_dataset([source, ranged], tmp_path / "both", SETTINGS)


def paged(kind: str, *pages: bytes) -> bytes:
    first, *others = (Image.open(io.BytesIO(page)) for page in pages)
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=others)
    return buffer.getvalue()


def test_pictures_of_which_only_the_first_page_is_used_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = {
        "book.tif": paged("TIFF", *good(3).values()),
        "stack.tif": paged("TIFF", deep(1), deep(2)),
        "moves.gif": paged("GIF", *good(2).values()),
        "moves.webp": paged("WEBP", *good(2, 20).values()),
        "moves.png": paged("PNG", *good(2, 30).values()),
    }
    single = {"one.tif": paged("TIFF", encoded(draw(40))), "still.jpg": encoded(draw(41), "jpg")}
    renamed = {f"{n}-{name}": data for n, (name, data) in enumerate({**scans, **single, **good(3)}.items())}
    source = make_source(tmp_path / "source", renamed).model_copy(update={"grey_range": (0.0, 4095.0)})
    settings = SETTINGS.model_copy(update={"samples_per_shard": 2})
    assert len(ingest_dataset(source, tmp_path / "out", settings)) == 10
    assert capsys.readouterr().err == (
        f"note: source {tmp_path}/source: 5 of 10 pictures have several pages or frames, of which the first is the "
        "picture; save the others as files of their own if they are to be read\n"
    )


def test_training_pictures_like_an_evaluation_picture_are_left_out(tmp_path: Path) -> None:
    test = ingest_dataset(make_source(tmp_path / "a", good(5), "evaluation"), tmp_path / "test", SETTINGS)
    copies = {"copy.jpg": encoded(draw(3), "jpg", quality=95), "same.png": encoded(draw(4))}
    references = References.of({"test": test}, bits=4)
    source = make_source(tmp_path / "b", {**good(5, 50), **copies})
    train = ingest_dataset(source, tmp_path / "train", SETTINGS, references)
    assert quarantine(train) == {"copy": "near_duplicate", "same": "near_duplicate"}
    assert len(train) == 5
    rows = pq.read_table(train.path / "quarantine/index.parquet").to_pylist()
    assert [row["detail"] for row in rows] == ["looks like test/good-3", "looks like test/good-4"]
    kept = [one.payload and one.payload.read() for one in read_quarantine(train.path)]
    assert kept == [*copies.values()]


def make_questions(path: Path, answers: list[str]) -> Source:
    """Ten pictures with ten questions each; the answers are those of the first ones."""
    path.mkdir()
    for number in range(10):
        (path / f"p{number}.png").write_bytes(encoded(draw(number)))
    given = [*answers, *["red"] * (100 - len(answers))]
    rows = [f"p{n // 10}.png,what is {n}?,{answer},1\n" for n, answer in enumerate(given)]
    (path / "questions.csv").write_text("image,question,answer,open\n" + "".join(rows))
    return Source(source=str(path), kind="vqa", origin="human", role="train")


def test_of_a_table_that_is_no_utf_8_it_is_said_how_to_make_it_one(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "captions.csv").write_bytes("image,caption\na.png,Schöne Tasse\n".encode("cp1252"))
    (folder / "a.png").write_bytes(encoded(draw(1)))
    source = Source(source=str(folder), kind="table", origin="web", role="train")
    with pytest.raises(BlipError, match=r"\nbroken_text: save .* CSV UTF-8, .*iconv -f cp1252 -t utf-8"):
        ingest_dataset(source, tmp_path / "out", SETTINGS)


def test_a_slow_source_is_not_said_to_give_nothing() -> None:
    assert (speed(6, 22.0), speed(6, 2.0), speed(24_690, 20.0)) == ("0.27/s", "3/s", "1,234/s")


def test_texts_are_counted_among_texts_and_pictures_among_pictures(tmp_path: Path) -> None:
    few = Ingest(max_bad_fraction=0.04, datasets={})
    source = make_questions(tmp_path / "a", ["", "bell\x07", "", "red"])
    dataset = ingest_dataset(source, tmp_path / "out", few)
    assert (len(dataset), dataset.manifest.quarantined) == (10, {"control_characters": 1, "no_answer": 2})
    source = make_questions(tmp_path / "b", ["", "bell\x07", "", "", ""])
    with pytest.raises(
        BlipError, match=r"5 of 100 texts cannot be used \(4 no_answer, 1 control_characters\)"
    ):
        ingest_dataset(source, tmp_path / "out", few)
    (tmp_path / "a/p3.png").write_bytes(b"<html>")
    source = Source(source=str(tmp_path / "a"), kind="vqa", origin="human", role="train")
    with pytest.raises(
        BlipError, match=r"1 of 10 samples cannot be used \(1 not_an_image\), .*--max-bad-fraction"
    ):
        ingest_dataset(source, tmp_path / "out2", few)
    words = {f"good-{n}.png": encoded(draw(n)) for n in range(10)}
    source = make_source(tmp_path / "c", words)
    table = tmp_path / "c/captions.csv"
    table.write_text(table.read_text().replace("picture of good-7", "bell\x07"))
    with pytest.raises(BlipError, match=r"1 of 10 samples cannot be used \(1 control_characters\)"):
        ingest_dataset(source, tmp_path / "out3", few)


def test_ingesting_again_gives_the_same_dataset(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", {**good(12), "bad.png": b""})
    one, two = (ingest_dataset(source, tmp_path / name, SETTINGS) for name in ("one", "two"))
    assert one.digest == two.digest
    assert (one.path / "metadata.parquet").read_bytes() == (two.path / "metadata.parquet").read_bytes()
    assert one.manifest.parents == [str(tmp_path / "source")]


def test_file_names_that_are_no_unicode_are_set_aside(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", {})
    folder = tmp_path / "source"
    (folder / "images.tar").unlink()
    for number in range(8):
        (folder / f"p{number}.png").write_bytes(encoded(draw(number)))
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded(draw(99)))
    (folder / "captions.csv").unlink()
    rows = [f'{{"image": "p{number}.png", "caption": "a thing"}}' for number in range(8)]
    (folder / "captions.jsonl").write_text(
        "\n".join([*rows, '{"image": "a\\ud83d.png", "caption": "a smile"}'])
    )
    dataset = ingest_dataset(source, tmp_path / "out", SETTINGS)
    assert (len(dataset), dataset.manifest.quarantined) == (8, {"missing_file": 1, "not_listed": 1})
    details = [row["detail"] for row in pq.read_table(dataset.path / "quarantine/index.parquet").to_pylist()]
    assert "a\\ud83d.png is listed" in details[0] and "caf\\udce9.png in" in details[1]
    assert verify(dataset) == []


NAMES = {
    "sub/in folder.png": "sub_in_folder-2ede3174",
    "caf\u00e9.png": "caf_-2d03c5d6",
    "plain_name.png": "plain_name",
}


@pytest.mark.parametrize("kind", ["table", "folder", "webdataset"])
def test_a_key_in_which_something_was_replaced_leads_to_its_file(tmp_path: Path, kind: str) -> None:
    (tmp_path / "source/sub").mkdir(parents=True)
    pictures = {name: encoded(draw(number)) for number, name in enumerate(NAMES)}
    if kind == "webdataset":
        with tarfile.open(tmp_path / "source/a.tar", "w") as tar:
            for name, data in pictures.items():
                add_member(tar, name, data)
                add_member(tar, name.replace(".png", ".txt"), b"a picture")
    else:
        for name, data in pictures.items():
            (tmp_path / "source" / name).write_bytes(data)
    if kind == "table":
        rows = "".join(f"{name},a picture\n" for name in NAMES)
        (tmp_path / "source/captions.csv").write_text("image,caption\n" + rows)
    source = Source(source=str(tmp_path / "source"), kind=kind, origin="web", role="train")  # pyright: ignore[reportArgumentType]
    dataset = ingest_dataset(source, tmp_path / "out", SETTINGS)
    found = {sample.key: sample.name for sample in dataset.samples()}
    rows = dataset.metadata(["key", "name"]).to_pylist()
    assert found == {row["key"]: row["name"] for row in rows}
    if kind == "webdataset":
        assert sorted(filter(None, found.values())) == ["a/caf\u00e9", "a/plain_name", "a/sub/in folder"]
    else:
        assert found == {key: name if "-" in key else None for name, key in NAMES.items()}
    again = Source(source=str(dataset.path), kind="pairs", origin="web", role="train")
    copy = ingest_dataset(again, tmp_path / "again", SETTINGS)
    assert {sample.key: sample.name for sample in copy.samples()} == found
    assert verify(copy) == []


def test_where_keys_tell_the_names_nothing_is_added(tmp_path: Path) -> None:
    dataset = ingest_dataset(make_source(tmp_path / "source", good(3)), tmp_path / "out", SETTINGS)
    assert "name" not in dataset.metadata().column_names


def test_the_vocabulary_is_trained_on_the_texts_or_taken_from_a_file(tmp_path: Path) -> None:
    dataset = ingest_dataset(make_source(tmp_path / "source", good(10)), tmp_path / "out", SETTINGS)
    size = write_vocabulary(tmp_path / "vocabulary", Vocabulary(size=120), [dataset])
    entries = (tmp_path / "vocabulary/vocab.txt").read_text().splitlines()
    assert len(entries) == size <= 120
    assert {"picture", "of", "good"} <= set(entries)
    again = Vocabulary(file=str(tmp_path / "vocabulary/vocab.txt"))
    assert write_vocabulary(tmp_path / "taken", again, []) == size
    assert (tmp_path / "taken/vocab.txt").read_text().splitlines() == entries
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["vocab.txt"]


def test_a_vocabulary_that_is_taken_keeps_accents_where_its_folder_says_so(tmp_path: Path) -> None:
    train_tokenizer(["ein mädchen läuft"] * 3, 120).save_vocabulary(tmp_path / "german")
    write_vocabulary(tmp_path / "taken", Vocabulary(file=str(tmp_path / "german/vocab.txt")), [])
    assert Tokenizer.from_vocabulary(tmp_path / "taken/vocab.txt").keeps_accents


def test_the_vocabulary_of_captions_needs_no_picture_and_that_of_questions_the_shards(tmp_path: Path) -> None:
    captions = ingest_dataset(make_source(tmp_path / "source", good(10)), tmp_path / "captions", SETTINGS)
    asked = (Question("which planet is it", {"saturn": 1.0}, open=True),)
    with PairsWriter(tmp_path / "asked", samples_per_shard=4, parents=[], parameters={}) as writer:
        for number in range(6):
            writer.add(sample(number, questions=asked))
    questions = PairsDataset.open(tmp_path / "asked")
    said = [f"picture of good-{number}" for number in range(10)]
    for number in range(6):
        said += [f"picture {number}", "which planet is it", "saturn"]
    (captions.path / captions.manifest.shards[0].url).unlink()

    write_vocabulary(tmp_path / "vocabulary", Vocabulary(size=120), [captions, questions])

    entries = (tmp_path / "vocabulary/vocab.txt").read_text().splitlines()
    assert {"planet", "saturn"} <= set(entries)
    assert entries == train_tokenizer(said, 120).vocabulary


def test_references_of_other_looks_are_other_references(tmp_path: Path) -> None:
    """Two pictures of the same hash may differ in their colours, which decide too."""
    dataset = ingest_dataset(
        make_source(tmp_path / "test", good(4), "evaluation"), tmp_path / "out", SETTINGS
    )
    references = References.of({"test": dataset}, bits=4)
    other = References(references.names, references.hashes, references.thumbnails + 1, 4)
    assert other.digest != references.digest


def make_tars(path: Path, count: int, samples: int) -> Source:
    """Tars with the tables that img2dataset writes beside them, which are not read."""
    path.mkdir()
    for number in range(count):
        with tarfile.open(path / f"{number:05d}.tar", "w") as tar:
            for key in range(samples):
                add_member(tar, f"{number:05d}{key:04d}.png", encoded(draw(100 * number + key)))
                add_member(tar, f"{number:05d}{key:04d}.txt", b"a thing")
        pq.write_table(pa.table({"key": ["0"]}), path / f"{number:05d}.parquet")
    return Source(source=str(path), kind="webdataset", origin="web", role="train")


def test_a_tar_that_is_cut_counts_among_the_tars(tmp_path: Path) -> None:
    """However many samples it has: what is lost with it is in no count."""
    source = make_tars(tmp_path / "tars", 3, 40)
    cut = tmp_path / "tars/00001.tar"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2 // 512 * 512])
    with pytest.raises(BlipError) as caught:
        ingest_dataset(source, tmp_path / "out", SETTINGS)
    message = str(caught.value)
    assert "1 of 3 files cannot be read to their end (1 truncated_archive)" in message
    assert "00001.tar cannot be read after 00001" in message and "--max-bad-fraction" in message
    allowed = SETTINGS.model_copy(update={"max_bad_fraction": 0.4})
    assert 80 < len(ingest_dataset(source, tmp_path / "out", allowed)) < 120


def test_a_tar_that_is_packed_counts_among_the_tars(tmp_path: Path) -> None:
    source = make_tars(tmp_path / "tars", 5, 4)
    with gzip.open(tmp_path / "tars/00005.tar.gz", "wb") as packed:
        packed.write((tmp_path / "tars/00004.tar").read_bytes())
    (tmp_path / "tars/00004.tar").unlink()
    assert len(ingest_dataset(source, tmp_path / "out", SETTINGS)) == 16  # 1 of 5 is 0.2
    with pytest.raises(BlipError, match=r"1 of 5 files cannot be read to their end \(1 compressed_archive\)"):
        ingest_dataset(source, tmp_path / "over", SETTINGS.model_copy(update={"max_bad_fraction": 0.1}))


def test_files_that_are_not_there_count_among_the_files(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    for number in (0, 2):
        rows = [{"image": encoded(draw(number)), "caption": "a thing"}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"hub/train-{number:05d}-of-00003.parquet")
    source = Source(source=str(tmp_path / "hub"), kind="hf", origin="web", role="train")
    with pytest.raises(BlipError, match=r"1 of 3 files cannot be read to their end \(1 broken_table\)"):
        ingest_dataset(source, tmp_path / "out", SETTINGS)


def test_a_folder_that_is_a_link_counts_among_the_folders(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"photos/{number}").mkdir(parents=True)
        (tmp_path / f"photos/{number}/red apple.png").write_bytes(encoded(draw(number)))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos/9").symlink_to(tmp_path / "elsewhere")
    source = Source(source=str(tmp_path / "photos"), kind="folder", origin="web", role="train")
    with pytest.raises(
        BlipError, match=r"1 of 11 files and folders cannot be read to their end \(1 linked_away"
    ):
        ingest_dataset(source, tmp_path / "over", SETTINGS.model_copy(update={"max_bad_fraction": 0.05}))
    assert len(ingest_dataset(source, tmp_path / "out", SETTINGS)) == 9
