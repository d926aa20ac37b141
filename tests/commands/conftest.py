"""A small model, pictures and a dataset, for every command."""

from pathlib import Path

import pytest
from PIL import Image

from tests import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with random weights."""
    from blip.model.checkpoints import ModelCard, save_model

    directory = tmp_path_factory.mktemp("models") / "tiny"
    save_model(tiny.network(), tiny.tokenizer(), directory, ModelCard())
    return directory


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of transformers with random weights."""
    import transformers

    from tests import tiny_clip

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return tiny_clip.save(tmp_path_factory.mktemp("clip"), tiny_clip.processor_of())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a red, a green and a blue picture, and a caption for each in its name."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("red", "green", "blue"):
        Image.new("RGB", (48, 40), name).save(folder / f"{name} apple.png")
    return folder


@pytest.fixture
def dataset(blip, pictures: Path, tmp_path: Path) -> Path:
    """The pictures as a pairs dataset."""
    assert blip("ingest", pictures, "--out", tmp_path / "pairs", "--origin", "web").code == 0
    return tmp_path / "pairs"
