"""VisDial from dialogs to ranked answers: `blip stage finetune@visdial`, then `evaluate@visdial`."""

import csv
from itertools import product
from pathlib import Path

import pytest

from blip.config import Settings, load_settings
from blip.data.sample import Caption, Question, Sample
from blip.errors import BadArguments
from blip.stages import run_stage
from tests.stages.conftest import ROOT, TOY_MODEL, train_apart, write
from tests.stages.test_nlvr import COLOURS, painted

STEPS = 200
SETTINGS = TOY_MODEL | {
    "compute.threads": 1,
    "finetune.visdial": {
        "data": ["visdial"],
        "steps": STEPS,
        "training": {"batch_size": 8, "crop_scale": [0.9, 1.0], "checkpoint_every": 100, "flip": False},
        "optimiser": {"name": "adamw", "lr": 0.0005, "adam_lr": 0.0005, "vision_lr": 1.0},
        "objective": {"questions_per_image": 2},
    },
    "evaluate.visdial": {"data": "visdial_validation", "validation": "visdial_validation"},
}


def dialogs(times: int) -> list[Sample]:
    """Every colour of picture with every colour of caption; a question about the picture, and one about the caption."""
    made = []
    for number, (seen, told) in enumerate(list(product(COLOURS, COLOURS)) * times):
        first = Question("what colour is it?", {seen: 1.0}, True, tuple(COLOURS))
        second = Question(
            f"what colour is it? {seen}. which colour is it told?", {told: 1.0}, True, tuple(COLOURS)
        )
        captions = (Caption(f"a picture in {told}", "human"),)
        made.append(Sample(f"dialog-{number:03d}", painted(seen), "png", captions, (first, second), 32, 32))
    return made


@pytest.fixture
def visdial_settings(evaluation_settings: Settings) -> Settings:
    write(Path(), "visdial", dialogs(8))
    write(Path(), "visdial_validation", dialogs(2))
    return load_settings(ROOT / "params.yaml", overrides=SETTINGS)


def test_a_model_learns_to_answer_and_is_evaluated(visdial_settings: Settings) -> None:
    tuned = train_apart("finetune@visdial", SETTINGS)
    figures = run_stage("evaluate@visdial", visdial_settings)
    assert figures["visdial.chance_mrr"] == 0.75
    assert figures["visdial.r1"] == tuned["finetune.visdial.validation.r1"] > 0.9
    with Path("reports/evaluate/visdial/predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 16
    assert sum(row["rank"] == "1" for row in rows) / 16 == figures["visdial.r1"]


@pytest.mark.parametrize("stage", ["finetune@visdial", "evaluate@visdial"])
def test_settings_without_visdial_are_named(stage: str, evaluation_settings: Settings) -> None:
    with pytest.raises(BadArguments, match=r"the settings have no \w+\.visdial; choose a recipe"):
        run_stage(stage, evaluation_settings)
