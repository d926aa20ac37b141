from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from blip.config import Settings, load_settings
from blip.data.pairs import PairsDataset
from blip.data.text import Tokenizer
from blip.errors import BlipError
from blip.stages import ingest
from blip.tracking.runs import StageRun

NO_RUN = cast(StageRun, None)  # the stage itself logs nothing


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Two folders of pictures, one of the training ones being a test picture."""
    names = ["red apple", "green pear", "blue plum", "old car", "new car", "tall tree"]
    for seed, name in enumerate(names):
        draw(tmp_path / f"sources/train/{name}.png", seed)
        draw(tmp_path / f"sources/test/{name}.png", seed + 100)
    draw(tmp_path / "sources/train/leaked picture.png", 103)
    datasets = {
        "train": {"source": "sources/train", "kind": "folder", "origin": "human", "role": "train"},
        "test": {"source": "sources/test", "kind": "folder", "origin": "human", "role": "evaluation"},
    }
    params = Path(__file__).parents[2] / "params.yaml"
    overrides = {"ingest.datasets": datasets, "ingest.samples_per_shard": 4, "ingest.vocabulary.size": 100}
    monkeypatch.chdir(tmp_path)
    return load_settings(params, overrides=overrides)


def test_sources_become_datasets_and_a_vocabulary(settings: Settings) -> None:
    metrics = ingest.run(settings, NO_RUN, None)
    train, test = (PairsDataset.open(f"data/datasets/{name}") for name in ("train", "test"))
    assert (len(train), len(test)) == (6, 6)
    assert train.manifest.quarantined == {"near_duplicate": 1}
    tokenizer = Tokenizer.from_vocabulary("data/datasets/vocabulary/vocab.txt")
    assert "car" in tokenizer.vocabulary
    assert metrics == {
        "ingest.vocabulary": len(tokenizer.vocabulary),
        "ingest.train.samples": 6,
        "ingest.train.quarantined": 0,
        "ingest.train.near_duplicates": 1,
        "ingest.test.samples": 6,
        "ingest.test.quarantined": 0,
        "ingest.test.near_duplicates": 0,
    }


def test_a_broken_source_stops_the_stage(settings: Settings) -> None:
    Path("sources/train/old car.png").write_bytes(b"no picture")
    with pytest.raises(BlipError, match="1 of 7 samples cannot be used"):
        ingest.run(settings, NO_RUN, None)
    assert not Path("data/datasets/train").exists()
