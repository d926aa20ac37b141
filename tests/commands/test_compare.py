"""`blip compare` with a real BLIP and a real CLIP of toy size."""

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from blip.clip import Clip
from blip.data.pairs import PairsDataset
from blip.data.sample import Caption
from blip.model.api import Blip
from blip.model.checkpoints import ModelCard, save_model
from blip.tasks.gallery import Cosines, encode_pictures, gather
from blip.tasks.retrieval import by_embeddings, metrics, search
from tests import tiny
from tests.stages.conftest import pictures as sample_pictures
from tests.stages.conftest import write

CPU = ("--device", "cpu")
COUNT = 24


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of the sample, each with its label as its caption; the first with one caption more."""
    folder = tmp_path_factory.mktemp("project")
    samples = [
        replace(one, truth={"label": one.captions[0].text}) for one in islice(sample_pictures("test"), COUNT)
    ]
    samples[0] = replace(samples[0], captions=(*samples[0].captions, Caption("a picture of it", "human")))
    write(folder, "test", samples)
    return folder / "data/datasets/test"


def values(ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_a_blip_and_a_clip_have_the_figures_of_retrieval(blip, model: Path, clip: Path, held_out: Path):
    options = ("--model", f"ours={model}", "--model", f"theirs={clip}", "--rerank", 5, "--batch-size", 7)
    found = values(blip("compare", held_out, *options, *CPU, "--json"))

    assert (found["pictures"], found["captions"]) == (COUNT, COUNT + 1)
    ours, theirs = found["models"].values()
    assert (ours["kind"], theirs["kind"]) == ("BLIP", "CLIP")
    opened = Blip.open(model)
    gallery = gather(PairsDataset.open(held_out).samples(), partial(encode_pictures, opened), 7)
    cosines = gallery.cosines(opened.embed_texts(gallery.texts))
    assert ours["heads"] == {
        "embeddings": metrics(gallery, by_embeddings(gallery, cosines)),
        "re-ranked": metrics(gallery, search(opened, gallery, 5)),
    }
    network = Clip.open(clip)
    images = network.embed_images([sample.media for sample in PairsDataset.open(held_out).samples()], 7)
    cosines = Cosines(images, network.embed_texts(gallery.texts))
    assert theirs["heads"] == {"embeddings": metrics(gallery, by_embeddings(gallery, cosines))}
    assert ours["rerank_seconds"] > 0 and theirs["rerank_seconds"] is None
    pairs = [(one["first_head"], one["other"], one["other_head"]) for one in found["differences"]]
    assert pairs == [("embeddings", "theirs", "embeddings"), ("re-ranked", "theirs", "embeddings")]
    for one in found["differences"]:
        for measure, told in one["measures"].items():
            gain = theirs["heads"]["embeddings"][measure] - ours["heads"][one["first_head"]][measure]
            assert told["gain"] == pytest.approx(gain)
            assert told["low"] - 1e-9 <= told["gain"] <= told["high"] + 1e-9


def test_a_model_against_itself_is_within_chance(blip, model: Path, held_out: Path):
    ended = blip("compare", held_out, "--model", f"a={model}", "--model", f"b={model}", "--classes", *CPU)

    assert ended.code == 0
    assert "b (embeddings) less a (embeddings)" in ended.out
    verdicts = [line for line in ended.out.splitlines() if "+0.0 to +0.0" in line]
    assert len(verdicts) == 6 + 2 + 6  # embeddings with classes, and re-ranked
    assert all("within chance" in line and line.split()[-2:] == ["0", "0"] for line in verdicts)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_person_is_told_what_they_find_and_what_it_costs(blip, model: Path, clip: Path, held_out: Path):
    ended = blip("compare", held_out, "--model", model, "--model", f"theirs={clip}", "--classes", *CPU)

    assert ended.code == 0
    assert f"2 models on {COUNT} pictures and {COUNT + 1} captions" in ended.out
    assert ", 1 thread" in ended.out and "threads" not in ended.out
    rows = [line.split() for line in ended.out.splitlines()]
    assert [row[:2] for row in rows if row[1:2] in (["embeddings"], ["re-ranked"])] == [
        [model.name, "embeddings"], [model.name, "re-ranked"], ["theirs", "embeddings"],
    ]  # fmt: skip
    for name in ("kind", "parameters", "images/s", "texts/s", "re-ranking", "95% interval", "classification"):
        assert name in ended.out
    assert "measuring theirs, a CLIP" in ended.err


def test_texts_that_a_clip_cuts_are_counted_and_said(blip, clip: Path, model: Path, pictures: Path, tmp_path):
    (pictures / "red apple.png").rename(pictures / f"{'red ' * 12}apple.png")
    assert blip("ingest", pictures, "--out", tmp_path / "pairs").code == 0
    ended = blip("compare", tmp_path / "pairs", "--model", model, "--model", f"theirs={clip}", *CPU)
    assert "theirs reads only the beginning of 1 of the 3 texts." in ended.out


def test_the_folder_has_figures_queries_a_picture_and_a_page(
    blip, model: Path, clip: Path, held_out: Path, tmp_path: Path
):
    out = tmp_path / "compared"
    options = ("--model", f"ours={model}", "--model", f"theirs={clip}", "--classes", "--out", out)
    told = values(blip("compare", held_out, *options, *CPU, "--json"))

    assert json.loads((out / "comparison.json").read_text()) == told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compared"]
    with Image.open(out / "comparison.png") as picture:
        assert picture.width > 1000
    with (out / "queries.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    directions = [row["direction"] for row in rows]
    assert [directions.count(way) for way in ("image to text", "text to image", "classification")] == [
        COUNT, COUNT + 1, COUNT,
    ]  # fmt: skip
    for name, head in (("ours", "embeddings"), ("ours", "re-ranked"), ("theirs", "embeddings")):
        ranks = [int(row[f"{name}, {head}"]) for row in rows if row["direction"] == "image to text"]
        share = sum(rank <= 5 for rank in ranks) / COUNT
        assert told["models"][name]["heads"][head]["i2t_r5"] == pytest.approx(share)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 6
    assert "data:image/webp;base64," in page and "no picture" not in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page
    for row in told["differences"]:
        assert f"{row['other']} ({row['other_head']}) less {row['first']} ({row['first_head']})" in page

    again = blip("compare", held_out, *options, *CPU)
    assert again.code == 2 and f"{out} exists already" in again.err


def test_without_re_ranking_or_a_trained_head_embeddings_are_all(
    blip, model: Path, held_out: Path, tmp_path: Path
):
    save_model(tiny.network(1), tiny.tokenizer(), tmp_path / "no head", ModelCard(missing=("itm_head",)))
    found = values(
        blip("compare", held_out, "--model", model, "--model", tmp_path / "no head", *CPU, "--json")
    )
    assert [list(side["heads"]) for side in found["models"].values()] == [
        ["embeddings", "re-ranked"], ["embeddings"],
    ]  # fmt: skip
    options = ("--model", f"a={model}", "--model", f"b={model}", "--rerank", 0)
    found = values(blip("compare", held_out, *options, *CPU, "--json"))
    assert {name for side in found["models"].values() for name in side["heads"]} == {"embeddings"}


def test_what_validation_set_aside_is_left_out(blip, model: Path, dataset: Path, tmp_path: Path):
    (tmp_path / "validated").mkdir()
    keys = pa.table({"key": [pq.read_table(dataset / "metadata.parquet")["key"][0].as_py()]})
    pq.write_table(keys, tmp_path / "validated" / f"{dataset.name}.parquet")
    found = values(blip("compare", dataset, "--model", f"a={model}", "--model", f"b={model}", *CPU, "--json"))
    assert (found["pictures"], found["captions"]) == (2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "MODEL"], "--model: 1 to compare; give two or more"),
        (["--model", "MODEL", "--model", "MODEL"], "is called tiny too; write NAME=M for one of them"),
        (["--model", "MODEL", "--model", "=MODEL"], "write NAME=M, or M alone"),
        (["--model", "MODEL", "--model", "b=MODEL", "--template", "a cat"], "'a cat' has no {}"),
        (["--model", "MODEL", "--model", "b=MODEL", "--device", "cuda:9"], "there is no such device here"),
    ],
)
def test_bad_arguments_are_named(blip, model: Path, held_out: Path, options: list[str], message: str):
    ended = blip("compare", held_out, *(part.replace("MODEL", str(model)) for part in options))
    assert ended.code == 2
    assert message in ended.err


def test_a_model_that_is_neither_is_named(blip, model: Path, held_out: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "config.json").write_text('{"model_type": "siglip"}')
    ended = blip("compare", held_out, "--model", model, "--model", other, *CPU)
    assert ended.code == 1
    assert f"{other}: model_type is 'siglip'" in ended.err and "'blip' or 'clip'" in ended.err
    ended = blip("compare", held_out, "--model", model, "--model", tmp_path / "nowhere", *CPU)
    assert ended.code == 1 and "no such model directory" in ended.err


def test_a_dataset_without_captions_is_named(blip, model: Path, tmp_path: Path):
    bare = [replace(one, captions=()) for one in islice(sample_pictures("test"), 3)]
    write(tmp_path, "bare", bare)
    folder = tmp_path / "data/datasets/bare"
    ended = blip("compare", folder, "--model", model, "--model", f"b={model}", *CPU)
    assert ended.code == 1
    assert f"{folder} has no captions" in ended.err and f"blip inspect {folder}" in ended.err


def test_a_clip_of_a_film_is_named(blip, model: Path, tmp_path: Path):
    write(tmp_path, "video", list(islice(sample_pictures("video", "clips.tar", "mp4"), 2)))
    folder = tmp_path / "data/datasets/video"
    ended = blip("compare", folder, "--model", model, "--model", f"b={model}", *CPU)
    assert ended.code == 1
    assert "is a clip; pictures are compared" in ended.err
