"""The kind of a source is told by its files and their keys."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from blip.config import Columns
from blip.errors import BadArguments, BlipError
from blip.ingest.sources.guess import kind_of
from tests.data.conftest import draw, encoded

from .reading import items, write, write_tar

FILES = {
    "captions_train2017.json": (
        {"info": {}, "licenses": [], "images": [{"id": 1, "file_name": "a.jpg"}]},
        "coco",
    ),
    "nocaps_val_4500_captions.json": (
        {"licenses": [], "info": {}, "images": [{"open_images_id": "0", "file_name": "0.jpg", "id": 0}]},
        "nocaps",
    ),
    "dataset_coco.json": ({"images": [{"filepath": "val2014", "sentences": [{"raw": "x"}]}]}, "karpathy"),
    "coco_karpathy_train.json": ([{"caption": "x", "image": "a.jpg", "image_id": "coco_1"}], "table"),
    "v2_OpenEnded_mscoco_train2014_questions.json": (
        {"info": {}, "questions": [{"image_id": 1, "question": "?", "question_id": 1}]},
        "vqav2",
    ),
    "v2_mscoco_train2014_annotations.json": ({"annotations": [{"answers": [], "question_id": 1}]}, "vqav2"),
    "vqa_train.json": (
        [{"question_id": 1, "question": "?", "answer": ["x"], "image": "a.jpg", "dataset": "vqa"}],
        "vqav2",
    ),
    "question_answers.json": ([{"id": 1, "qas": []}], "visual_genome"),
    "region_descriptions.json": ([{"regions": [], "id": 1}], "visual_genome"),
    "visdial_1.0_train.json": ({"data": {"questions": ["?"] * 9000}, "version": "1.0"}, "visdial"),
    "train.json": ({"identifier": "train-1-0-0", "sentence": "s", "label": "True"}, "nlvr2"),
    "nlvr_train.json": ([{"sentence": "s", "label": "True", "images": ["a.jpg", "b.jpg"]}], "nlvr2"),
    "train_val_videodatainfo.json": ({"info": {}, "videos": [{"video_id": "video0"}]}, "msrvtt"),
    "train_qa.json": ([{"answer": "x", "question": "?", "video_id": 0}], "msrvtt"),
    "ccs_filtered.json": ([{"url": "http://a.org/1.jpg", "caption": "x"}], "urls"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_is_known_by_its_keys(tmp_path: Path, name: str) -> None:
    value, kind = FILES[name]
    write(tmp_path / name, json.dumps(value))
    write(tmp_path / "pictures/a.jpg", "A")
    assert kind_of(tmp_path / name) == kind
    if kind not in ("table", "urls"):
        assert kind_of(tmp_path) == kind


def test_lines_and_tables_are_known(tmp_path: Path) -> None:
    line = json.dumps({"identifier": "dev-1-0-0", "sentence": "s"})
    write(tmp_path / "dev.jsonl", line, line)
    write(tmp_path / "dev.json", line, line)
    write(tmp_path / "t.csv", "image,caption", "a.png,x")
    write(tmp_path / "MSRVTT_JSFUSION_test.csv", "key,vid_key,video_id,sentence", "ret0,msr1,video1,x")
    write(tmp_path / "u.tsv", "url\tcaption", "http://a.org/1.jpg\tx")
    pq.write_table(pa.table({"image_path": ["a"], "text": ["x"]}), tmp_path / "t.parquet")
    kinds = {path.name: kind_of(path) for path in tmp_path.iterdir()}
    assert kinds == {
        "dev.jsonl": "nlvr2",
        "dev.json": "nlvr2",
        "t.csv": "table",
        "MSRVTT_JSFUSION_test.csv": "msrvtt",
        "u.tsv": "urls",
        "t.parquet": "table",
    }


def test_folders_are_known_by_what_lies_in_them(tmp_path: Path) -> None:
    rows = {"image": ["a.png"], "text": ["x"]}
    Dataset.from_dict(rows).save_to_disk(tmp_path / "saved")
    DatasetDict({"train": Dataset.from_dict(rows)}).save_to_disk(tmp_path / "splits")
    Dataset.from_dict(rows).to_parquet(tmp_path / "hub/data/train-00000-of-00001.parquet")
    write(tmp_path / "laion/000.tar", "")
    write(tmp_path / "laion/000_stats.json", '{"count": 1}')
    write(tmp_path / "laion/000.parquet", "")
    write(tmp_path / "mine/captions.csv", "image,caption")
    write(tmp_path / "marked/metadata.jsonl", "{}")
    write(tmp_path / "asked/questions.csv", "image,question")
    write(tmp_path / "msvd/AllVideoDescriptions.txt", "x")
    (tmp_path / "film").mkdir()
    write_tar(tmp_path / "film/clips.tar", {})
    write(tmp_path / "film/captions.csv", "image,caption")
    for name in ("red apple.jpg", "sub/green pear.png"):
        write(tmp_path / "named" / name, "A")
    for name in ("2021/cat on a mat.jpg", "2022/dog at home.jpg"):
        write(tmp_path / "years" / name, "A")
    for name in ("cat/0001.jpg", "dog/0002.jpg"):
        write(tmp_path / "classes" / name, "A")
    for name in ("cat/IMG_1.jpg", "cat/IMG_1.txt", "dog/IMG_2.JPG", "dog/IMG_2.TXT", "dog/IMG_3.jpg"):
        write(tmp_path / "told" / name, "A")
    kinds = {path.name: kind_of(path) for path in tmp_path.iterdir()}
    assert kinds == {
        "saved": "hf",
        "splits": "hf",
        "hub": "hf",
        "laion": "webdataset",
        "mine": "table",
        "marked": "table",
        "asked": "vqa",
        "msvd": "msvd",
        "film": "video",
        "named": "folder",
        "years": "folder",
        "classes": "imagefolder",
        "told": "folder",
    }


def test_what_cannot_be_told_lists_the_kinds(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", "x")
    for source in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(BadArguments, match=r"say it with --kind, one of: table, folder, imagefolder, "):
            kind_of(source)
    with pytest.raises(BadArguments, match="nowhere: no such file or folder"):
        kind_of(tmp_path / "nowhere")
    for name in ("captions_val2017.json", "dataset_coco.json"):
        write(tmp_path / name, json.dumps(FILES.get(name, FILES["captions_train2017.json"])[0]))
    with pytest.raises(
        BadArguments, match=r"captions_val2017\.json \(coco\), dataset_coco\.json \(karpathy\)"
    ):
        kind_of(tmp_path)


def test_msvd_qa_is_told_by_its_mapping(tmp_path: Path) -> None:
    write(tmp_path / "val_qa.json", json.dumps(FILES["train_qa.json"][0]))
    write(tmp_path / "youtube_mapping.txt", "x_1_2 vid1")
    assert kind_of(tmp_path / "val_qa.json") == "msvd"


def test_a_number_without_end_is_no_crash(tmp_path: Path) -> None:
    write(tmp_path / "t.json", f'[{{"image": {"1" * 6000}}}]')
    with pytest.raises(BadArguments, match=r"t\.json has a number that is too large after 0 values"):
        kind_of(tmp_path / "t.json")


def test_a_table_of_another_name_is_not_lost_beside_its_pictures(tmp_path: Path) -> None:
    for name in ("red apple.jpg", "green pear.jpg"):
        write(tmp_path / name, "A")
    assert kind_of(tmp_path) == "folder"
    for name in ("list.csv", "catalogue.TSV", "data.json", "pairs.jsonl"):
        write(tmp_path / name, "image,caption")
        with pytest.raises(BadArguments) as caught:
            kind_of(tmp_path)
        assert f"found {name} beside the pictures; name it as the source" in str(caught.value)
        assert "--kind folder where the names" in str(caught.value)
        (tmp_path / name).unlink()
    for name in ("a/cat/1.jpg", "a/dog/2.jpg"):
        write(tmp_path / "classes" / name, "A")
    write(tmp_path / "classes/solution.csv", "id,label")
    write(tmp_path / "classes/other.csv", "id,label")
    with pytest.raises(BadArguments, match=r"found other\.csv and 1 more beside the pictures"):
        kind_of(tmp_path / "classes")


@pytest.mark.parametrize(
    ("name", "read"), [("captions.xlsx", "captions.csv"), ("a.ODS", "a.csv"), ("b.ndjson", "b.jsonl")]
)
def test_a_table_in_a_form_that_is_not_read_is_to_be_saved_in_another(
    tmp_path: Path, name: str, read: str
) -> None:
    write(tmp_path / "red apple.jpg", "A")
    write(tmp_path / name, "image,caption")
    with pytest.raises(BadArguments, match=f"save it as {read}, and name that as the source"):
        kind_of(tmp_path)
    with pytest.raises(BadArguments, match=f"is not read; save it as {tmp_path / read}, and name that"):
        kind_of(tmp_path / name)


def test_an_empty_folder_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(BadArguments, match="the folder is empty"):
        kind_of(tmp_path)


def test_a_table_that_has_its_pictures_is_not_downloaded_again(tmp_path: Path) -> None:
    jpeg = encoded(draw(0), "jpg")
    about = {"caption": ["x"], "url": ["http://a.org/1.jpg"]}
    (tmp_path / "laion").mkdir()
    (tmp_path / "hub").mkdir()
    pq.write_table(pa.table({**about, "jpg": [jpeg]}), tmp_path / "laion/00000.parquet")  # as img2dataset's
    pq.write_table(
        pa.table({**about, "image": [{"bytes": jpeg, "path": "1.jpg"}]}), tmp_path / "hub/train.parquet"
    )
    write(tmp_path / "own.csv", "image,caption,url", "1.jpg,x,http://a.org/1.jpg")
    write(tmp_path / "bare.tsv", "http://a.org/1.jpg\tphoto")
    kinds = {path.name: kind_of(path) for path in tmp_path.rglob("*")}
    assert kinds == {
        "laion": "hf",
        "00000.parquet": "table",
        "hub": "hf",
        "train.parquet": "table",
        "own.csv": "table",
        "bare.tsv": "urls",
    }
    assert kind_of(tmp_path / "own.csv", Columns(image="url")) == "urls"
    for folder in ("laion", "hub"):
        (found,) = items(tmp_path / folder, "hf")
        assert getattr(found, "media", None) == jpeg


def test_a_column_that_holds_addresses_is_a_list_of_urls(tmp_path: Path) -> None:
    tables = {
        "link.parquet": {"link": ["http://a.org/1.jpg"], "headline": ["x"]},
        "image.csv": {"image": ["https://a.org/1.jpg"], "caption": ["x"]},
        "names.csv": {"image": ["a.jpg"], "caption": ["x"]},
        "both.csv": {"file_name": ["a.jpg"], "link": ["http://a.org/1.jpg"], "headline": ["x"]},
        "own.csv": {"Adresse": ["http://a.org/1.jpg"], "Titel": ["x"]},
    }
    for name, columns in tables.items():
        if name.endswith(".parquet"):
            pq.write_table(pa.table(columns), tmp_path / name)
        else:
            write(tmp_path / name, ",".join(columns), ",".join(values[0] for values in columns.values()))
    kinds = {name: kind_of(tmp_path / name) for name in tables}
    assert kinds == {
        "link.parquet": "urls",
        "image.csv": "urls",
        "names.csv": "table",
        "both.csv": "table",
        "own.csv": "table",
    }
    own = Columns(image="Adresse", caption="Titel")
    assert kind_of(tmp_path / "own.csv", own) == "urls"
    (row,) = items(tmp_path / "image.csv", "urls")
    assert getattr(row, "url", "") == "https://a.org/1.jpg"
    with pytest.raises(
        BlipError, match=r"name of the caption .* it has: link, headline\. .* --column caption=NAME"
    ):
        items(tmp_path / "link.parquet", "urls")


@pytest.mark.parametrize(
    ("name", "asked", "kind"),
    [
        ("coco_karpathy_train.json", "table", "table"),
        ("region_descriptions.json", "table", "visual_genome"),
        ("MSRVTT_JSFUSION_test.csv", "video", "msrvtt"),
        ("vqa_train.json", "vqa", "vqav2"),
    ],
)
def test_a_folder_without_its_table_tells_what_it_has(
    tmp_path: Path, name: str, asked: str, kind: str
) -> None:
    header = "key,vid_key,video_id,sentence"
    write(tmp_path / name, header if name.endswith("csv") else json.dumps(FILES[name][0]))
    write(tmp_path / "truth.csv", "image,label")
    write(tmp_path / "notes.json", "{}")
    write(tmp_path / "cut.parquet", "PAR1")
    with pytest.raises(
        BlipError,
        match=rf"no table .*; it has {name} \(kind {kind}\): name the file as the source, with its kind$",
    ):
        items(tmp_path, asked)
