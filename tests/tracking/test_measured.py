"""How figures were measured stands beside them, and says of which model they are and what they are compared with."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from blip.config import Settings, load_settings
from blip.data.pairs import Caption, PairsWriter, Sample
from blip.tracking.measured import Measured, Scores, as_json, from_json, measured
from blip.tracking.registry import weights_digest

MODEL = Path("models/vqa")


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, "PNG")
    return file.getvalue()


def write_dataset(*texts: str, source: str = "here") -> None:
    with PairsWriter(
        Path("data/datasets/test"), samples_per_shard=8, parents=[source], parameters={}
    ) as writer:
        for number, text in enumerate(texts):
            writer.add(Sample(f"s{number}", picture(), "png", (Caption(text, "human"),), (), 32, 32))


@pytest.fixture
def how(settings: Settings) -> Measured:
    """Of a model and a dataset in the project folder."""
    write_dataset("a cat", "a dog")
    MODEL.mkdir(parents=True)
    save_file({"weight": torch.ones(4)}, MODEL / "model.safetensors")
    return again(settings)


def again(settings: Settings) -> Measured:
    return measured([MODEL], "test", settings, "seed", "evaluate.captioning")


def test_a_file_of_figures_says_how_they_were_measured(how: Measured) -> None:
    scores = Scores(
        {"a.one": 0.5, "a.two": 0.25, "b.three": 1.0, "seconds": 3.0}, {"a.one": how, "a.two": how}
    )
    written = json.loads(json.dumps(as_json(scores)))
    assert [record["figures"] for record in written["measured"]] == [["a.one", "a.two"]]
    assert written["measured"][0]["settings"]["evaluate.captioning.beams"] == "3"
    assert from_json(written, "evaluate_a") == scores
    assert from_json(written, "evaluate_a").measured["a.one"].stage == "evaluate_a"
    assert as_json(Scores({"seconds": 3.0}, {})) == {"seconds": 3.0}


def test_the_same_data_and_settings_are_measured_alike_whatever_the_weights(
    how: Measured, settings: Settings
) -> None:
    assert again(settings) == how
    save_file({"weight": torch.zeros(4)}, MODEL / "model.safetensors")
    assert again(settings).how == how.how
    assert again(settings).weights == (weights_digest(MODEL),) != how.weights


def test_other_samples_are_measured_otherwise(how: Measured, settings: Settings) -> None:
    aside = Path("data/datasets/validated/test.parquet")
    aside.parent.mkdir()
    pq.write_table(pa.table({"key": ["s1"]}), aside)
    without_one = again(settings).how
    aside.unlink()
    assert again(settings).how == how.how != without_one
    write_dataset("a cat", "a horse")
    assert again(settings).how not in (how.how, without_one)


def test_the_same_samples_from_elsewhere_are_measured_alike(how: Measured, settings: Settings) -> None:
    write_dataset("a cat", "a dog", source="another place")
    assert again(settings).how == how.how


def test_other_settings_are_measured_otherwise(how: Measured) -> None:
    assert again(load_settings(overrides={"evaluate.captioning.beams": 5})).how != how.how
    assert again(load_settings(overrides={"evaluate.vqa.candidates": 5})).how == how.how


def test_figures_of_another_model_or_of_other_settings_are_found_out(
    how: Measured, settings: Settings
) -> None:
    assert how.problem(weights_digest(MODEL), settings) == ""
    assert how.problem("0", settings) == "measured on other weights"
    changed = load_settings(overrides={"evaluate.captioning.beams": 5})
    said = "measured with evaluate.captioning.beams 3, which is 5 now"
    assert how.problem(weights_digest(MODEL), changed) == said


def test_a_name_of_validation_data_is_looked_at_and_compared_by_what_is_in_them(
    how: Measured, settings: Settings
) -> None:
    names = ("validation.captioning.beams", "validation.captioning.data")
    before, now = (measured([MODEL], "test", settings, *names[:count]) for count in (1, 2))
    assert now.how == before.how, "a champion of before the name was noted is still compared with"
    other = load_settings(overrides={"validation.captioning.data": "flickr"})
    said = "measured with validation.captioning.data validation, which is flickr now"
    assert now.problem(weights_digest(MODEL), other) == said
