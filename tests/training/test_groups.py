"""Which weight is in which group, at which rate and decay."""

import csv
import json
from pathlib import Path

import pytest
from torch import nn

from blip.config import Optimiser
from blip.training.groups import below_the_heads, parameter_groups, trainable
from tests import tiny
from tests.training.scripts import said_by
from tests.training.tiny_run import write_dataset

SCRIPT = """
import json, os, sys
from blip.training.loop import train
from tests.training.tiny_run import plan

os.chdir(sys.argv[1])
train(plan(2, changes=json.loads(sys.argv[2])))
"""


def settings(**changes: object) -> Optimiser:
    return Optimiser.model_validate({"lr": 0.02, "adam_lr": 1.0, "weight_decay": 0.1, **changes})


def group_of(objective: nn.Module, name: str, options: Optimiser) -> dict[str, object]:
    weight = dict(trainable(objective))[name]
    return next(g for g in parameter_groups(objective, options) if any(p is weight for p in g["params"]))


def objective() -> nn.Module:
    return nn.ModuleDict({"network": tiny.network()})


def test_every_weight_is_in_one_group() -> None:
    made = objective()
    for options in (settings(), settings(name="muon", layer_decay=0.5, vision_lr=0.1)):
        found = [id(p) for group in parameter_groups(made, options) for p in group["params"]]
        assert sorted(found) == sorted(id(p) for _, p in trainable(made))


def test_norms_biases_and_positions_are_not_decayed_unless_all_are() -> None:
    made = objective()
    for name in ("network.vision.norm.weight", "network.vision.position_embedding", "network.temperature"):
        assert group_of(made, name, settings())["weight_decay"] == 0
        assert group_of(made, name, settings(decay_all=True))["weight_decay"] == 0.1
    assert group_of(made, "network.lm_head.dense.weight", settings())["weight_decay"] == 0.1


def test_layer_decay_is_beits() -> None:
    made, options = objective(), settings(layer_decay=0.5)
    layers = len(made["network"].vision.blocks)  # type: ignore[index]
    rates = {
        "network.vision.norm.weight": 1,
        "network.vision_projection.weight": 1,
        "network.itm_head.weight": 1,
        f"network.vision.blocks.{layers - 1}.fc1.weight": 0.5,
        "network.vision.blocks.0.fc1.weight": 0.5**layers,
        "network.vision.patch_embedding.weight": 0.5 ** (layers + 1),
        "network.text_encoder.embeddings.word.weight": 0.5 ** (layers + 1),
        "network.text_encoder.layers.0.feed_forward.up.weight": 0.5**layers,
        "network.text_decoder.layers.0.self_attention.qkv.weight": 0.5**layers,
    }
    assert {name: group_of(made, name, options)["lr"] for name in rates} == rates


def test_a_tower_counts_its_own_layers() -> None:
    assert below_the_heads("vision.blocks.11.fc1.weight", 12) == 1
    assert below_the_heads("vision.class_embedding", 24) == 25
    assert below_the_heads("temperature", 12) == 0


@pytest.mark.parametrize(
    "optimiser",
    [
        {"name": "adamw", "vision_lr": 0.1},
        {"name": "muon", "vision_lr": 0.1},
        {"name": "muon", "decay_all": True},
    ],
)
def test_the_curve_shows_the_full_rate_of_the_heads(tmp_path: Path, optimiser: dict[str, object]) -> None:
    write_dataset(tmp_path / "data")
    changes = {"warmup": 2, "warmup_lr": 0.0, "vision_lr": 1.0, "adam_lr": 0.004, **optimiser}
    said_by(SCRIPT, str(tmp_path), json.dumps({"optimiser": changes}))
    with (tmp_path / "metrics/curves/tiny.csv").open() as curve:
        assert [float(row["lr"]) for row in csv.DictReader(curve)] == [0.002, 0.004]
