"""`blip capfilt`, `gallery` and `calibrate` on small real things."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from blip.data.pairs import PairsDataset


def test_capfilt_refuses_lengths_without_room_for_a_caption(blip, dataset: Path, tmp_path: Path):
    result = blip("capfilt", dataset, tmp_path / "out", "--min-tokens", 30, "--max-tokens", 10)
    assert result.code == 2
    assert "min_tokens 30 is not below max_tokens 10" in result.err


@pytest.mark.parametrize("command", ["capfilt", "calibrate"])
def test_help_names_the_filter_that_is_used_when_none_is_given(blip, command: str):
    shown = " ".join(blip(command, "--help").out.replace("│", " ").split())

    assert "the champion of blip-filter when none is given" in shown


def test_capfilt_bootstraps_a_dataset(blip, model: Path, dataset: Path, tmp_path: Path):
    models = ("--captioner", model, "--filter", model)

    ended = blip("capfilt", dataset, tmp_path / "clean", *models, "--threshold", 0, "--device", "cpu")

    assert ended.code == 0
    assert json.loads(blip("inspect", tmp_path / "clean", "--json").out)["samples"] == 3


def test_capfilt_writes_captions_as_the_settings_of_the_stage_can_say(
    blip, model: Path, dataset: Path, tmp_path: Path
):
    models = ("--captioner", model, "--filter", model, "--workers", 1, "--device", "cpu")
    as_published = ("--repetition-penalty", 1.1, "--no-drop-repeats")

    assert blip("capfilt", dataset, tmp_path / "ours", *models).code == 0
    assert blip("capfilt", dataset, tmp_path / "theirs", *models, *as_published).code == 0

    told = [PairsDataset.open(tmp_path / name).manifest.parameters for name in ("ours", "theirs")]
    assert [(made["repetition_penalty"], made["drop_repeats"]) for made in told] == [
        (1.0, True),
        (1.1, False),
    ]


def test_capfilt_leaves_out_what_validation_set_aside(blip, model: Path, dataset: Path, tmp_path: Path):
    (tmp_path / "validated").mkdir()
    keys = pa.table({"key": [pq.read_table(dataset / "metadata.parquet")["key"][0].as_py()]})
    pq.write_table(keys, tmp_path / "validated" / f"{dataset.name}.parquet")
    models = ("--captioner", model, "--filter", model)

    ended = blip(
        "capfilt", dataset, tmp_path / "clean", *models, "--threshold", 0, "--device", "cpu", "--json"
    )

    assert ended.code == 0
    audit = pq.read_table(tmp_path / "clean/audit.parquet")["key"].to_pylist()
    assert len(audit) == 2 and keys["key"][0].as_py() not in audit


def test_capfilt_counts_the_pictures_it_cannot_decode(blip, model: Path, pictures: Path, tmp_path: Path):
    pool, clean = tmp_path / "pool", tmp_path / "clean"
    made = ("--out", pool, "--origin", "web", "--set", "samples_per_shard=2")
    assert blip("ingest", pictures, *made).code == 0
    first = pool / "shards/00000.tar"
    first.write_bytes(first.read_bytes().replace(b"IDAT", b"XXXX"))
    judged = ("--captioner", model, "--filter", model, "--workers", 1, "--min-tokens", 1, "--threshold", 0)

    refused = blip("capfilt", pool, clean, *judged, "--max-tokens", 5)
    ended = blip("capfilt", pool, clean, *judged, "--max-tokens", 5, "--max-bad-fraction", 0.7)

    assert refused.code == 1 and "(--max-bad-fraction)" in refused.err
    assert ended.code == 0
    assert re.search(r"^ *images +3$", ended.out, re.M)
    assert re.search(r"^ *bad +2$", ended.out, re.M)


@pytest.fixture
def bootstrapped(blip, model: Path, dataset: Path, tmp_path: Path) -> Path:
    """What CapFilt makes of the pictures when it drops no text."""
    made = tmp_path / "clean"
    judged = ("--captioner", model, "--filter", model, "--workers", 1, "--min-tokens", 1, "--threshold", 0)
    assert blip("capfilt", dataset, made, *judged).code == 0
    return made


def test_gallery_draws_a_page_about_a_bootstrapped_dataset(
    blip, dataset: Path, bootstrapped: Path, tmp_path: Path
):
    page = tmp_path / "pages/gallery.html"
    ended = blip("gallery", dataset, bootstrapped, "--out", page, "--per-group", 2, "--by", "width", "--json")
    counts = json.loads(ended.out)

    assert ended.code == 0
    assert (counts["images"], counts["texts"]["web"]["kept"], counts["page"]) == (3, 3, str(page))
    assert [(source["name"], source["pictures"]) for source in counts["sources"]] == [("48", 3)]
    cards = page.read_text(encoding="utf-8").count('<li class="card">')
    assert cards == 4  # two of the pool, two of those kept


def test_gallery_of_a_column_that_is_none_names_those_there_are(
    blip, dataset: Path, bootstrapped: Path, tmp_path: Path
):
    ended = blip("gallery", dataset, bootstrapped, "--out", tmp_path / "gallery.html", "--by", "site")

    assert ended.code == 2
    assert "has no column site to tell sources by; it has: key, shard, width" in ended.err
    assert not (tmp_path / "gallery.html").exists()


def test_gallery_of_a_dataset_without_audit_says_what_writes_one(blip, dataset: Path, tmp_path: Path):
    ended = blip("gallery", dataset, dataset, "--out", tmp_path / "gallery.html")

    assert ended.code == 1
    assert f"{dataset} has no audit.parquet: `blip capfilt" in ended.err


def test_calibrate_prints_and_draws_the_curve(blip, model: Path, dataset: Path, tmp_path: Path):
    ended = blip("calibrate", dataset, "--filter", model, "--png", tmp_path / "curve.png", "--device", "cpu")

    assert ended.code == 0
    assert ended.out.splitlines()[1].split() == ["threshold", "precision", "(95%)", "recall", "kept"]
    assert len(ended.out.splitlines()) == 20
    with Image.open(tmp_path / "curve.png") as drawn:
        assert drawn.format == "PNG"


def test_calibrate_asks_similar_pictures_of_a_pool_that_is_named(blip, model: Path, dataset: Path):
    ended = blip("calibrate", dataset, "--filter", model, "--neighbours", "2", "--device", "cpu")
    asked = blip(
        "calibrate", dataset, "--filter", model, "--neighbours", "2", "--web", dataset, "--device", "cpu"
    )

    assert ended.code == 2
    assert "--neighbours are pictures of a pool: name its dataset with --web" in ended.err
    assert asked.code == 0, asked.err


@pytest.mark.parametrize("threshold", ["x", "keep=x", "recall=0.5"])
def test_a_threshold_that_is_none_is_refused(
    blip, model: Path, dataset: Path, tmp_path: Path, threshold: str
):
    ended = blip("capfilt", dataset, tmp_path / "clean", "--threshold", threshold, "--device", "cpu")

    assert ended.code == 2
    assert f"--threshold {threshold}: give a probability" in ended.err


@pytest.mark.parametrize("threshold", ["2", "keep=0", "precision=1.5"])
def test_a_threshold_out_of_its_range_is_refused_before_a_model_is_opened(
    blip, dataset: Path, tmp_path: Path, threshold: str
):
    ended = blip("capfilt", dataset, tmp_path / "clean", "--captioner", "none", "--threshold", threshold)

    assert ended.code == 2
    said = "a probability is from 0 to 1, a share above 0 and below 1"
    assert ended.err == f"error: --threshold {threshold}: {said}\n"
