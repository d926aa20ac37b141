"""A project folder with params.yaml, dvc.yaml and an MLflow store of its own."""

import shutil
from pathlib import Path

import pytest

from blip.config import Settings, load_settings
from blip.tracking import store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new SQLite store: creating the tables takes seconds, so it is done once and copied."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        store.client()
    return folder / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory for one test."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copy(empty_store, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def settings(project: Path) -> Settings:
    return load_settings()
