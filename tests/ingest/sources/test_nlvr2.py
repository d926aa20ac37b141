"""NLVR2 in the exact form of its files; both pictures go into the shards and come back."""

import json
import shutil
from pathlib import Path

import pytest

from blip.config import Ingest, Source
from blip.data.quarantine import read_quarantine
from blip.data.sample import Question
from blip.errors import BlipError
from blip.ingest.ingestion import ingest_dataset
from blip.ingest.references import References
from blip.ingest.sources.refused import key_of
from blip.inspection.verification import verify
from tests.data.conftest import draw, encoded

from .reading import details, items, samples, write


def statement(identifier: str, sentence: str, label: str | None = "True", **fields: object) -> str:
    """A line of train.json."""
    value = {
        "validation": {"47": "True"},
        "sentence": sentence,
        "left_url": "https://a.org/left.jpg",
        "right_url": "https://a.org/right.jpg",
        "writer": "182",
        "identifier": identifier,
        "label": label,
        "query": "acorns6",
        "synset": "acorn",
        "extra_validations": {},
        **fields,
    }
    return json.dumps({name: found for name, found in value.items() if found is not None})


@pytest.fixture
def nlvr(tmp_path: Path) -> Path:
    """Two pairs, of which one has two statements."""
    write(
        tmp_path / "train.json",
        statement("train-10171-0-0", "An image shows one acorn.", "False", directory=59),
        statement("train-4100-2-0", "Two dogs  sit.", directory=3),
        statement("train-10171-0-1", "There are acorns.", directory=59),
    )
    for number, stem in enumerate(("59/train-10171-0", "3/train-4100-2")):
        for side in (0, 1):
            path = tmp_path / f"images/train/{stem}-img{side}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(draw(2 * number + side)))
    return tmp_path


def source(nlvr: Path) -> Source:
    return Source(
        source=str(nlvr / "train.json"),
        kind="nlvr2",
        origin="human",
        role="train",
        images=str(nlvr / "images"),
    )


def test_statements_about_a_pair_are_one_sample(nlvr: Path) -> None:
    found = samples(items(nlvr / "train.json", "nlvr2", images=str(nlvr / "images")))
    assert list(found) == ["train-10171-0", "train-4100-2"]
    pair = found["train-10171-0"]
    assert (pair.media, pair.partner) == (encoded(draw(0)), encoded(draw(1)))
    assert pair.questions == (
        Question("An image shows one acorn.", {"false": 1.0}, open=False),
        Question("There are acorns.", {"true": 1.0}, open=False),
    )


def test_blips_own_list_gives_the_same_samples(nlvr: Path) -> None:
    def entry(stem: str, sentence: str, label: str) -> dict[str, object]:
        images = [f"images/train/{stem}-img{side}.png" for side in (0, 1)]
        return {"sentence": sentence, "label": label, "images": images}

    entries = [
        entry("59/train-10171-0", "An image shows one acorn.", "False"),
        entry("3/train-4100-2", "Two dogs  sit.", "True"),
        entry("59/train-10171-0", "There are acorns.", "True"),
    ]
    write(nlvr / "nlvr_train.json", json.dumps(entries))
    wanted = samples(items(nlvr / "train.json", "nlvr2", images=str(nlvr / "images")))
    for images in (nlvr, nlvr / "images", nlvr / "images/train"):
        assert samples(items(nlvr / "nlvr_train.json", "nlvr2", images=str(images))) == wanted

    assert samples(items(nlvr, "nlvr2")) == wanted, "the official file is taken where both are there"
    (nlvr / "train.json").unlink()
    assert samples(items(nlvr, "nlvr2")) == wanted

    entries[0]["images"] = ["images/train/59/train-10171-0-img0.png", "images/train/3/train-4100-2-img1.png"]
    entries[1]["images"] = ["images/train/59/train-10171-0-img0.png"]
    write(nlvr / "nlvr_train.json", json.dumps(entries))
    found = items(nlvr / "nlvr_train.json", "nlvr2")
    assert len(samples(found)) == 2, "a picture may stand in pairs with others"
    assert details(found) == [
        ("broken_entry", "nlvr_train.json, entry 1: not enough values to unpack (expected 2, got 1)")
    ]


def test_a_copy_of_the_folders_beside_them_costs_no_pair(nlvr: Path) -> None:
    images = nlvr / "images/train"
    before = samples(items(nlvr / "train.json", "nlvr2", images=str(images)))
    shutil.copytree(images / "59", images / "59_small")
    for file in (images / "59_small").iterdir():
        file.write_bytes(b"small")
    assert samples(items(nlvr / "train.json", "nlvr2", images=str(images))) == before and len(before) == 2


def test_both_pictures_come_back_from_the_shards(nlvr: Path, tmp_path: Path) -> None:
    dataset = ingest_dataset(source(nlvr), tmp_path / "out", Ingest(datasets={}))
    first, second = dataset.samples()
    assert (first.media, first.partner) == (encoded(draw(0)), encoded(draw(1)))
    assert (second.partner, second.partner_extension) == (encoded(draw(3)), "png")
    assert first.questions[1] == Question("There are acorns.", {"true": 1.0}, open=False)
    assert verify(dataset) == []


def test_training_data_keeps_away_from_both_pictures_of_a_pair(nlvr: Path, tmp_path: Path) -> None:
    single = tmp_path / "single"
    for number in (0, 1, 9):
        write(single / f"{number}.txt", "a drawing")
        (single / f"{number}.png").write_bytes(encoded(draw(number)))
    folder = Source(source=str(single), kind="folder", origin="web", role="train")
    settings = Ingest(datasets={}, max_bad_fraction=1)
    pairs = ingest_dataset(source(nlvr), tmp_path / "pairs", settings)
    kept = ingest_dataset(folder, tmp_path / "kept", settings, References.of({"test": pairs}, bits=4))
    assert [sample.key for sample in kept.samples()] == ["9"]
    assert {one.detail for one in read_quarantine(kept.path)} == {"looks like test/train-10171-0"}
    (single / "3.txt").write_text("the right one of the second pair")
    (single / "3.png").write_bytes(encoded(draw(3)))
    drawings = References.of({"test": ingest_dataset(folder, tmp_path / "drawings", settings)}, bits=4)
    with pytest.raises(BlipError, match=r"no sample is left of 2 \(2 near_duplicate\)"):
        ingest_dataset(source(nlvr), tmp_path / "none", settings, drawings)


def test_a_broken_right_picture_is_quarantined(nlvr: Path, tmp_path: Path) -> None:
    (nlvr / "images/train/3/train-4100-2-img1.png").write_bytes(b"<html>")
    settings = Ingest(datasets={}, max_bad_fraction=0.5)
    dataset = ingest_dataset(source(nlvr), tmp_path / "out", settings)
    assert [sample.key for sample in dataset.samples()] == ["train-10171-0"]
    assert dataset.manifest.quarantined == {"not_an_image": 1}


def test_a_pair_may_have_any_name(tmp_path: Path) -> None:
    write(tmp_path / "dev.json", statement("my pair 1-0-0", "It is so."))
    for side in (0, 1):
        (tmp_path / f"my pair 1-0-img{side}.png").write_bytes(encoded(draw(side)))
    named = Source(source=str(tmp_path), kind="nlvr2", origin="human", role="train")
    dataset = ingest_dataset(named, tmp_path / "out", Ingest(datasets={}))
    assert [sample.key for sample in dataset.samples()] == [key_of("my pair 1-0")]


def test_dev_pictures_lie_in_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "dev.json", statement("dev-850-0-0", "It is so.", "False"))
    for side in (0, 1):
        write(tmp_path / f"dev/dev-850-0-img{side}.png", f"{side}")
    (pair,) = samples(items(tmp_path, "nlvr2")).values()
    assert (pair.key, pair.media, pair.partner) == ("dev-850-0", b"0\n", b"1\n")


def test_broken_lines_and_missing_pictures_are_refused(nlvr: Path) -> None:
    with (nlvr / "train.json").open("a") as file:
        file.write('{"identifier": \n')
        file.write(statement("train-1-0-0", "s", "Perhaps") + "\n")
        file.write(statement("train-2-0-0", "s") + "\n")
    found = items(nlvr / "train.json", "nlvr2", images=str(nlvr / "images"))
    assert len(samples(found)) == 2
    (reason, detail), *others = details(found)
    assert (reason, detail.split(":")[0]) == ("broken_row", "train.json, line 4")
    assert others == [
        ("broken_entry", "train.json, line 5: no 'perhaps'"),
        ("missing_file", f"train-2-0-img0.png is listed, its file is not in {nlvr / 'images'}"),
    ]
