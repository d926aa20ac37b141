"""COCO's captions, Karpathy's splits and nocaps, in the exact form of the published files."""

import json
import shutil
from pathlib import Path

import pytest

from blip.errors import BlipError
from blip.ingest.sources.guess import kind_of

from .reading import details, items, reasons, samples, texts, write

LICENSE = {"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}


def image(number: int, **fields: object) -> dict:
    """An entry of `images` as captions_train2017.json has it."""
    return {
        "license": 3,
        "file_name": f"{number:012d}.jpg",
        "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg",
        "height": 360,
        "width": 640,
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": "http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg",
        "id": number,
        **fields,
    }


def annotation(number: int, image_id: int, caption: str) -> dict:
    return {"image_id": image_id, "id": number, "caption": caption}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """COCO 2017 as its archives unpack; images and captions in different orders."""
    info = {
        "description": "COCO 2017 Dataset",
        "url": "http://cocodataset.org",
        "version": "1.0",
        "year": 2017,
    }
    for split, numbers in {"train2017": (391895, 522418, 184613), "val2017": (397133,)}.items():
        annotations = [annotation(7 * n, n, f"of {n}\n") for n in reversed(numbers)]
        annotations += [annotation(9 * numbers[0], numbers[0], "A man  with a red helmet")]
        value = {
            "info": info,
            "licenses": [LICENSE],
            "images": [image(n) for n in numbers],
            "annotations": annotations,
        }
        write(tmp_path / f"annotations/captions_{split}.json", json.dumps(value))
        for number in numbers:
            write(tmp_path / split / f"{number:012d}.jpg", str(number))
    return tmp_path


def test_captions_and_images_are_joined(coco: Path) -> None:
    found = samples(items(coco, "coco", "human", split="train2017"))
    assert list(found) == ["000000391895", "000000522418", "000000184613"]
    first = found["000000391895"]
    assert (first.media, first.extension, first.truth) == (b"391895\n", "jpg", {"image_id": 391895})
    assert texts(first) == [("of 391895", "human"), ("A man with a red helmet", "human")]


def test_the_file_may_be_named_and_the_pictures_lie_elsewhere(coco: Path, tmp_path: Path) -> None:
    file = coco / "annotations/captions_val2017.json"
    assert list(samples(items(file, "coco"))) == ["000000397133"]
    (coco / "val2017").rename(tmp_path / "pool")
    assert list(samples(items(file, "coco", images=str(tmp_path / "pool")))) == ["000000397133"]


def test_several_files_need_a_split(coco: Path) -> None:
    with pytest.raises(BlipError, match=r"it has captions_train2017\.json, captions_val2017\.json; name one"):
        items(coco, "coco")
    with pytest.raises(BlipError, match=r"it has no dataset_\*\.json$"):
        items(coco, "karpathy")


def test_what_does_not_join_is_refused(coco: Path) -> None:
    file = coco / "annotations/captions_val2017.json"
    value = json.loads(file.read_text())
    value["images"] += [image(1), image(2), {"id": 3}]
    value["annotations"] += [annotation(1, 2, "two"), annotation(2, 99, "nobody"), {"image_id": 4}]
    write(file, json.dumps(value))
    write(coco / "val2017/000000000001.jpg", "1")
    found = items(file, "coco")
    assert list(samples(found)) == ["000000397133"]
    assert details(found) == [
        ("broken_entry", "captions_val2017.json, annotations 4: no 'caption'"),
        ("no_caption", "nothing is said of it"),
        ("missing_file", f"000000000002.jpg is listed, its file is not in {coco}"),
        ("broken_entry", "captions_val2017.json, images 3: no 'file_name'"),
        ("missing_file", "captions_val2017.json: image 99 of 'nobody' is not listed"),
    ]


def test_a_caption_that_is_no_utf_8_costs_itself_only(coco: Path) -> None:
    file = coco / "annotations/captions_val2017.json"
    file.write_bytes(file.read_bytes().replace(b"red helmet", b"r\xe9d helmet"))
    found = items(file, "coco")
    assert texts(samples(found)["000000397133"]) == [("of 397133", "web")]
    assert reasons(found) == {"000000397133": "broken_text"}


def test_a_caption_nested_without_end_costs_its_entry(coco: Path) -> None:
    file = coco / "annotations/captions_val2017.json"
    deep = "[" * 5000 + "]" * 5000
    file.write_text(
        file.read_text().replace('"annotations": [', f'"annotations": [{{"image_id": 1, "caption": {deep}}},')
    )
    found = items(file, "coco")
    assert list(samples(found)) == ["000000397133"]
    assert [reason for reason, _ in details(found)] == ["broken_entry"]


def test_ids_that_are_no_numbers_and_captions_that_are_null_are_told(coco: Path) -> None:
    file = coco / "annotations/captions_val2017.json"
    value = json.loads(file.read_text())
    value["annotations"] += [{"image_id": "x7", "caption": "one"}, {"image_id": 397133, "caption": None}]
    value["images"] += [{"id": number, "file_name": "x7.jpg"} for number in ("x7", "9" * 20)]
    write(file, json.dumps(value))
    assert details(items(file, "coco")) == [
        (
            "broken_entry",
            "captions_val2017.json, annotations 2: ids must be whole numbers of 64 bits, not 'x7'",
        ),
        ("broken_entry", "captions_val2017.json, annotations 3: caption is null"),
        ("broken_entry", "captions_val2017.json, images 1: ids must be whole numbers of 64 bits, not 'x7'"),
        (
            "broken_entry",
            f"captions_val2017.json, images 2: ids must be whole numbers of 64 bits, not '{'9' * 20}'",
        ),
    ]


def test_a_file_of_another_name_that_made_a_folder_coco_is_read(coco: Path) -> None:
    (coco / "annotations/captions_val2017.json").rename(coco / "my_captions.json")
    (coco / "annotations/captions_train2017.json").unlink()
    write(coco / "settings.json", "{}")
    assert kind_of(coco) == "coco"
    assert list(samples(items(coco, "coco"))) == ["000000397133"]


def test_a_file_that_is_cut_is_said_to_be(coco: Path) -> None:
    file = coco / "annotations/captions_train2017.json"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(BlipError, match=r"is no JSON after \d values of annotations\.item: .* is it cut\?"):
        items(file, "coco")


@pytest.fixture
def karpathy(tmp_path: Path) -> Path:
    """dataset_coco.json with an image of each split."""

    def entry(number: int, split: str, year: str = "val2014") -> dict:
        raw = f"Caption one of {number}."
        tokens = raw.lower().strip(".").split()
        sentences = [
            {"tokens": tokens, "raw": raw, "imgid": number, "sentid": 5 * number},
            {"tokens": ["two"], "raw": "Two ", "imgid": number, "sentid": 5 * number + 1},
        ]
        return {
            "filepath": year,
            "sentids": [5 * number, 5 * number + 1],
            "filename": f"COCO_{year}_{number:012d}.jpg",
            "imgid": number,
            "split": split,
            "sentences": sentences,
            "cocoid": 1000 + number,
        }

    images = [
        entry(0, "test"),
        entry(1, "restval"),
        entry(2, "val"),
        entry(3, "train", "train2014"),
        entry(4, "test"),
    ]
    write(tmp_path / "dataset_coco.json", json.dumps({"images": images, "dataset": "coco"}))
    for each in images:
        write(tmp_path / each["filepath"] / each["filename"], each["split"])
    return tmp_path


@pytest.mark.parametrize(
    ("split", "numbers"), [("train", [1, 3]), ("val", [2]), ("test", [0, 4]), ("all", [0, 1, 2, 3, 4])]
)
def test_a_karpathy_split_is_read_and_restval_is_train(karpathy: Path, split: str, numbers: list) -> None:
    found = samples(items(karpathy, "karpathy", "human", split=split))
    assert [sample.truth for sample in found.values()] == [{"image_id": 1000 + n} for n in numbers]
    first = next(iter(found.values()))
    assert texts(first) == [(f"Caption one of {numbers[0]}.", "human"), ("Two", "human")]
    assert first.key == f"COCO_{'val' if numbers[0] < 3 else 'train'}2014_{numbers[0]:012d}"


def test_a_copy_of_a_folder_beside_it_costs_no_picture_and_changes_no_key(karpathy: Path) -> None:
    """Resized pictures lie beside the others under the same names; the entries say which folder they mean."""
    before = samples(items(karpathy, "karpathy", split="test"))
    shutil.copytree(karpathy / "val2014", karpathy / "val2014_256")
    for file in (karpathy / "val2014_256").iterdir():
        write(file, "small")
    assert samples(items(karpathy, "karpathy", split="test")) == before
    (karpathy / "val2014").rename(karpathy / "val2014_512")
    found = items(karpathy, "karpathy", split="test")
    assert [reason for reason, _ in details(found)] == ["missing_file"] * 2
    assert "is in 2 folders of" in details(found)[0][1] and not samples(found)


def test_a_karpathy_split_must_be_named(karpathy: Path) -> None:
    with pytest.raises(BlipError, match=r"name a split; it has test \(2\), train \(2\), val \(1\)"):
        items(karpathy, "karpathy")
    with pytest.raises(BlipError, match=r"no split 'dev'; it has test \(2\)"):
        items(karpathy, "karpathy", split="dev")


def test_flickr30k_is_read(tmp_path: Path) -> None:
    sentences = [{"tokens": ["two", "dogs"], "raw": "Two dogs.", "imgid": 0, "sentid": 0}]
    image = {
        "sentids": [0, 1, 2, 3, 4],
        "imgid": 0,
        "sentences": sentences,
        "split": "test",
        "filename": "1000092795.jpg",
    }
    write(tmp_path / "dataset_flickr30k.json", json.dumps({"images": [image], "dataset": "flickr30k"}))
    write(tmp_path / "flickr30k-images/1000092795.jpg", "F")
    (found,) = items(tmp_path / "dataset_flickr30k.json", "karpathy", split="test")
    assert texts(samples([found])["1000092795"]) == [("Two dogs.", "web")]


def test_nocaps_keeps_the_domain(tmp_path: Path) -> None:
    value = {
        "licenses": [],
        "info": {"url": "http://nocaps.org", "description": "nocaps validation dataset", "year": 2018},
        "images": [
            {
                "license": 0,
                "open_images_id": "0013ea2087020901",
                "height": 1024,
                "coco_url": "https://s3.amazonaws.com/nocaps/val/0013ea2087020901.jpg",
                "width": 732,
                "date_captured": "2018-11-06 11:04:33",
                "file_name": "0013ea2087020901.jpg",
                "id": 0,
                "domain": "near-domain",
            }
        ],
        "annotations": [{"image_id": 0, "id": 0, "caption": "A baby is standing in front of a house."}],
    }
    write(tmp_path / "nocaps_val_4500_captions.json", json.dumps(value))
    write(tmp_path / "val/0013ea2087020901.jpg", "N")
    (sample,) = samples(items(tmp_path, "nocaps")).values()
    assert sample.truth == {"image_id": 0, "open_images_id": "0013ea2087020901", "domain": "near-domain"}
    assert texts(sample) == [("A baby is standing in front of a house.", "web")]


@pytest.mark.parametrize("kind", ["coco", "karpathy", "vqa", "vqav2"])
def test_a_table_where_another_kind_was_named_is_told(tmp_path: Path, kind: str) -> None:
    (tmp_path / "captions.csv").write_text("image,caption\na.png,a cup\n")
    with pytest.raises(BlipError, match=r"it has no .*; it has captions\.csv, which kind table reads$"):
        items(tmp_path, kind)


def test_a_list_is_told_from_the_official_form(tmp_path: Path) -> None:
    write(tmp_path / "nocaps_val.json", json.dumps([{"image": "val/0013ea2087020901.jpg", "img_id": 0}]))
    with pytest.raises(
        BlipError, match=r"nocaps_val\.json: it is a list, .*; BLIP's lists of nocaps have no captions"
    ):
        items(tmp_path / "nocaps_val.json", "nocaps")
    row = {"caption": "x", "image": "val2014/a.jpg", "image_id": "coco_1"}
    write(tmp_path / "coco_karpathy_train.json", json.dumps([row]))
    with pytest.raises(BlipError, match=r"it is a list, and kind coco reads an object .* is of kind table"):
        items(tmp_path / "coco_karpathy_train.json", "coco")
