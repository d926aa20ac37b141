"""blip stage compare with three real models."""

import json
import shutil
from pathlib import Path

import pytest

from blip.config import Settings
from blip.stages import run_stage
from blip.tracking.measured import from_json
from blip.tracking.registry import weights_digest


def test_three_models_are_compared_with_and_without_re_ranking(evaluation_settings: Settings) -> None:
    figures = run_stage("compare", evaluation_settings)
    recalls = [f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]
    heads = [
        f"compare.{name}.{head}"
        for name in ("pretrain", "bootstrapped", "finetuned")
        for head in ("itc.", "")
    ]
    for head in heads:
        mean = (figures[f"{head}i2t_r1"] + figures[f"{head}t2i_r1"]) / 2
        assert figures[f"{head}r1"] == pytest.approx(mean)
    told = {f"{head}{metric}" for head in heads for metric in (*recalls, "r1")}
    assert figures.keys() == told | {"compare.gain", "compare.gain_half", "compare.images", "seconds"}
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


def test_with_rounds_the_last_ones_model_is_compared(evaluation_settings: Settings) -> None:
    shutil.copytree("models/retrieval", "models/rounds/2/pretrained", dirs_exist_ok=True)
    twice = evaluation_settings.capfilt.model_copy(update={"rounds": 2})
    figures = run_stage("compare", evaluation_settings.model_copy(update={"capfilt": twice}))
    first, last, tuned = (
        {figure.removeprefix(of): value for figure, value in figures.items() if figure.startswith(of)}
        for of in ("compare.pretrain.", "compare.bootstrapped.", "compare.finetuned.")
    )
    assert last == tuned != first


def test_the_fine_tuned_model_scores_as_in_its_own_evaluation(evaluation_settings: Settings) -> None:
    compared = run_stage("compare", evaluation_settings)
    evaluated = run_stage("evaluate@retrieval", evaluation_settings)
    for metric in ("i2t_r1", "i2t_r5", "t2i_r1", "t2i_r10"):
        assert compared[f"compare.finetuned.{metric}"] == evaluated[f"retrieval.{metric}"]
