"""A project folder with small datasets from the sample and real models of toy size with random weights."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from blip.capfilt.jury import forget_models
from blip.config import Settings, load_settings
from blip.data.pairs import Caption, PairsWriter, Question, Sample
from blip.data.text import Tokenizer, train_tokenizer
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.checkpoints import ModelCard, save_model
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig
from blip.tracking import store

ROOT = Path(__file__).parents[2]
TOY_MODEL: dict[str, Any] = {  # settings of a network that trains in no time
    "compute.device": "cpu",
    "model.image_size": 32,
    "model.vision": {"width": 32, "layers": 1, "heads": 2},
    "model.text": {"width": 32, "layers": 1, "heads": 2, "max_tokens": 16, "dropout": 0.0},
    "model.projection": 16,
    "model.start": None,
}
SAMPLE = ROOT / "data/sample"
MODELS = ("pretrain", "pretrain_bootstrapped", "retrieval", "captioning", "vqa")


@pytest.fixture(autouse=True)
def _models_of_this_folder() -> Iterator[None]:
    """CapFilt keeps models open by their paths, and each test has another folder with models/filter in it."""
    forget_models()
    yield
    forget_models()


@pytest.fixture(scope="session")
def evaluation_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evaluation datasets, cut to a few samples, and every model that evaluation opens."""
    folder = tmp_path_factory.mktemp("project")
    captioned = list(islice(pictures("test"), 20))
    write(folder, "test", [replace(s, truth={"label": s.captions[0].text.upper()}) for s in captioned])
    write(folder, "video", list(islice(pictures("video", "clips.tar", "mp4"), 5)))
    write(folder, "vqa_train", list(islice(questions("train"), 10)))
    write(folder, "vqa_test", list(islice(questions("test"), 6)))
    texts = [caption.text for sample in captioned for caption in sample.captions]
    make_models(folder, train_tokenizer(texts * 2, 300))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        store.client()  # an empty store
    return folder


@pytest.fixture
def evaluation_settings(evaluation_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Makes the folder the current one for a test."""
    monkeypatch.chdir(evaluation_folder)
    return load_settings(ROOT / "params.yaml", overrides={"compute.device": "cpu", "compute.threads": 1})


def train_apart(stage: str, overrides: dict[str, Any]) -> dict[str, float]:
    """The figures of a training stage, run here in a process of its own: it starts a process group."""
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    changes = [
        argument
        for item in overrides.items()
        for argument in ("--set", "=".join((item[0], json.dumps(item[1]))))
    ]
    mine = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", "blip", "stage", stage, *changes]
    done = subprocess.run(
        command, env=os.environ | mine, text=True, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(Path(f"metrics/{stage.replace('@', '_')}.json").read_text())


def pictures(role: str, archive: str = "images.tar", extension: str = "webp") -> Iterator[Sample]:
    """Samples with captions as the sample's tables give them."""
    captions: dict[str, list[Caption]] = defaultdict(list)
    for row in rows(SAMPLE / role / "captions.csv"):
        captions[row["image"].split(".")[0]].append(Caption(row["caption"], "human"))
    for key, media in members(SAMPLE / role / archive):
        yield Sample(key, media, extension, tuple(captions[key]), (), 96, 96)


def questions(role: str) -> Iterator[Sample]:
    """Samples with questions."""
    asked: dict[str, list[Question]] = defaultdict(list)
    for row in rows(SAMPLE / "vqa" / role / "questions.csv"):
        question = Question(row["question"], {row["answer"]: 1.0}, row["open"] == "1")
        asked[row["image"].split(".")[0]].append(question)
    for key, media in members(SAMPLE / "vqa" / role / "images.tar"):
        yield Sample(key, media, "webp", (), tuple(asked[key]), 64, 64)


def rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        yield from csv.DictReader(handle)


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if file := archive.extractfile(member):
                yield Path(member.name).stem, file.read()


def write(folder: Path, name: str, samples: list[Sample]) -> None:
    directory = folder / "data/datasets" / name
    with PairsWriter(directory, samples_per_shard=8, parents=[], parameters={}) as writer:
        for sample in samples:
            writer.add(sample)


def make_models(folder: Path, tokenizer: Tokenizer) -> None:
    text = TextConfig(len(tokenizer), width=32, layers=1, heads=2, dropout=0.0, context_width=32)
    vision = VisionConfig(image_size=32, patch_size=8, width=32, layers=1, heads=2)
    for seed, name in enumerate(MODELS):
        torch.manual_seed(seed)
        network = BlipNetwork(BlipConfig(vision, text, projection=16))
        save_model(network, tokenizer, folder / "models" / name, ModelCard(task=name))
