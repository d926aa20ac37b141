"""A model that is opened compiled says what it says uncompiled, and compiles the same code once for all layers."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from blip.model.api import Blip
from tests import tiny
from tests.compiling import ROOT, run_compiling

TEXTS = ["red apple", "the dog on the table", "a", "green picture of x"]
MOST = 8  # graphs, of any number of layers: an image's block; a text layer with many, few, one row and token


@pytest.mark.slow
def test_a_compiled_model_says_the_same(tmp_path: Path) -> None:
    assert 0 < run_compiling("tests.model.test_compilation", tmp_path) <= MOST


AFTER_TRAINING = """
import torch
from torch._dynamo.utils import counters
from blip.model.compilation import compile_layers, switch_off
from tests import tiny

def graphs():
    torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(2))
    return counters["stats"]["unique_graphs"]

switch_off()
before = graphs()
compile_layers(tiny.network())
print(before, graphs())
"""


STARTING = f"""
import subprocess, sys
from blip.model.compilation import switch_off
switch_off()
subprocess.run([sys.executable, "-c", {AFTER_TRAINING!r}], check=True)
"""


@pytest.mark.parametrize("script", [AFTER_TRAINING, STARTING])
def test_what_training_switched_off_is_on_when_it_is_asked_for_here_and_in_a_rank(script: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TORCHDYNAMO_DISABLE", None)
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["0", "1"]


DROPPING = """
import torch
from torch._dynamo.utils import counters
from blip.model.vision import VisionConfig, VisionTransformer

tower = VisionTransformer(VisionConfig(32, 16, 32, layers=6, heads=2, drop_path=0.3)).train()
for block in tower.blocks:
    block.compile(backend="eager")
tower(torch.rand(2, 3, 32, 32)).sum().backward()
print(counters["stats"]["unique_graphs"])
"""


def test_blocks_that_are_left_out_at_different_rates_are_compiled_once() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TORCHDYNAMO_DISABLE", None)
    command = [sys.executable, "-c", DROPPING]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert int(said) == 2  # the first block, which is never left out, and all others


def main() -> None:
    """Compare, and print how many graphs were compiled."""
    from torch._dynamo.utils import counters

    with tempfile.TemporaryDirectory() as folder:
        directory = tiny.save(Path(folder), 3)
        plain, compiled = Blip.open(directory), Blip.open(directory, compiled=True)
    images = tiny.images(5)
    torch.testing.assert_close(compiled.match(images, TEXTS), plain.match(images, TEXTS), rtol=0, atol=1e-5)
    for decoding in ("greedy", "nucleus", "beam"):
        assert compiled.caption(images, decoding) == plain.caption(images, decoding), decoding
    print(counters["stats"]["unique_graphs"])
    picture = images[0].permute(1, 2, 0).numpy().astype("uint8")
    asked, expected = compiled.explain(picture, TEXTS[0]), plain.explain(picture, TEXTS[0])
    np.testing.assert_allclose(asked.maps, expected.maps, rtol=0, atol=1e-4)
    compiled.match(images[:1], TEXTS[:1])
    assert all(layer._compiled_call_impl is not None for layer in compiled.network.text_encoder.layers)


if __name__ == "__main__":
    main()
