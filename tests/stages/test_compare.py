"""blip stage compare with three real models."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from blip.config import Settings
from blip.stages import run_stage
from blip.tracking.measured import from_json
from blip.tracking.registry import weights_digest


def test_three_models_are_compared_with_and_without_re_ranking(evaluation_settings: Settings) -> None:
    figures = run_stage("compare", evaluation_settings)
    table = json.loads(Path("reports/compare/table.json").read_text())
    assert list(table) == ["pretrain", "bootstrapped", "finetuned"]
    for name, heads in table.items():
        for head, prefix in (("itc", "itc."), ("itm", "")):
            for metric, value in heads[head].items():
                assert figures[f"compare.{name}.{prefix}{metric}"] == value
            mean = (heads[head]["i2t_r1"] + heads[head]["t2i_r1"]) / 2
            assert heads[head]["r1"] == pytest.approx(mean)
    measured = from_json(json.loads(Path("metrics/compare.json").read_text()), "").measured
    for name, model in (
        ("pretrain", "pretrain"),
        ("bootstrapped", "pretrain_bootstrapped"),
        ("finetuned", "retrieval"),
    ):
        assert measured[f"compare.{name}.itc.r1"].weights == (weights_digest(Path("models", model)),)
    gain = figures["compare.bootstrapped.itc.i2t_r1"] - figures["compare.pretrain.itc.i2t_r1"]
    assert figures["compare.gain"] == pytest.approx(gain)
    assert (figures["compare.images"], 0 <= figures["compare.gain_half"] < 0.5) == (20.0, True)
    with Image.open("reports/compare/chart.png") as chart:
        assert chart.width > 800


def test_with_rounds_the_last_ones_model_is_compared(evaluation_settings: Settings) -> None:
    shutil.copytree("models/retrieval", "models/rounds/2/pretrained", dirs_exist_ok=True)
    twice = evaluation_settings.capfilt.model_copy(update={"rounds": 2})
    run_stage("compare", evaluation_settings.model_copy(update={"capfilt": twice}))
    table = json.loads(Path("reports/compare/table.json").read_text())
    assert table["bootstrapped"] == table["finetuned"] != table["pretrain"]


def test_the_fine_tuned_model_scores_as_in_its_own_evaluation(evaluation_settings: Settings) -> None:
    compared = run_stage("compare", evaluation_settings)
    evaluated = run_stage("evaluate@retrieval", evaluation_settings)
    for metric in ("i2t_r1", "i2t_r5", "t2i_r1", "t2i_r10"):
        assert compared[f"compare.finetuned.{metric}"] == evaluated[f"retrieval.{metric}"]
