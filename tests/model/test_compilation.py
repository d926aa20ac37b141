"""A model that is opened compiled says what it says uncompiled, and compiles the same code once for all layers."""

import tempfile
from pathlib import Path

import torch

from blip.model.api import Blip
from tests import tiny
from tests.compiling import run_compiling

TEXTS = ["red apple", "the dog on the table", "a", "green picture of x"]
MOST = 8  # graphs, of any number of layers: an image's block; a text layer with many, few, one row and token


def test_a_compiled_model_says_the_same(tmp_path: Path) -> None:
    assert 0 < run_compiling("tests.model.test_compilation", tmp_path) <= MOST


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


if __name__ == "__main__":
    main()
