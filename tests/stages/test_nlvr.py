"""NLVR2 from two pictures to a judged statement: `blip stage finetune@nlvr`, then `evaluate@nlvr`."""

import csv
import io
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from blip.config import Settings, load_settings
from blip.data.sample import Question, Sample
from blip.errors import BadArguments
from blip.model.two_images import TwoImages
from blip.stages import run_stage
from tests.stages.conftest import ROOT, TOY_MODEL, train_apart, write

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}
STEPS = 150
SETTINGS = TOY_MODEL | {
    "compute.threads": 1,
    "finetune.nlvr": {
        "data": ["nlvr"],
        "steps": STEPS,
        "training": {"batch_size": 8, "crop_scale": [0.9, 1.0], "checkpoint_every": 50, "flip": False},
        "optimiser": {"name": "adamw", "lr": 0.0005, "adam_lr": 0.0005, "vision_lr": 1.0},
        "objective": {"questions_per_image": 2},
    },
    "evaluate.nlvr": {"data": "nlvr_test", "validation": "nlvr_test"},
}


def painted(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), COLOURS[colour]).save(file, "PNG")
    return file.getvalue()


def pairs(times: int) -> list[Sample]:
    """Every pair of colours, `times` over, with a statement about the left picture and one about the right."""
    made = []
    for number, (left, right) in enumerate(list(product(COLOURS, COLOURS)) * times):
        told = tuple(
            Question(f"the {side} picture is red", {str(colour == "red").lower(): 1.0}, False)
            for side, colour in (("left", left), ("right", right))
        )
        sample = Sample(f"pair-{number:03d}", painted(left), "png", (), told, 32, 32)
        made.append(replace(sample, partner=painted(right), partner_extension="png"))
    return made


@pytest.fixture
def nlvr_settings(evaluation_settings: Settings) -> Settings:
    write(Path(), "nlvr", pairs(8))
    write(Path(), "nlvr_test", pairs(2))
    return load_settings(ROOT / "params.yaml", overrides=SETTINGS)


def test_a_model_learns_what_is_true_of_two_pictures_and_is_evaluated(nlvr_settings: Settings) -> None:
    tuned = train_apart("finetune@nlvr", SETTINGS)
    assert tuned["finetune.nlvr.training.steps"] == STEPS
    figures = run_stage("evaluate@nlvr", nlvr_settings)
    assert figures["nlvr.majority"] == 0.5
    assert figures["nlvr.accuracy"] == tuned["finetune.nlvr.validation.accuracy"] > 0.9
    report = Path("reports/evaluate/nlvr")
    examples = json.loads((report / "examples.json").read_text())["examples"]
    assert all((report / example[side]).is_file() for example in examples for side in ("image", "partner"))
    with (report / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 16
    model = TwoImages.open("models/nlvr")
    probability = model.judge([painted("red")], [painted("blue")], ["the left picture is red"])
    same = next(row for row in rows if row["key"] == "pair-001" and "left" in row["statement"])
    assert float(same["probability"]) == pytest.approx(float(probability), abs=1e-3)


@pytest.mark.parametrize("stage", ["finetune@nlvr", "evaluate@nlvr"])
def test_settings_without_nlvr_are_named(stage: str, evaluation_settings: Settings) -> None:
    with pytest.raises(BadArguments, match=r"the settings have no \w+\.nlvr; choose a recipe"):
        run_stage(stage, evaluation_settings)
