"""A registry behind a real MLflow server, which stores the models itself: what was registered is fetched from it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from blip.config import load_settings
from blip.errors import BlipError
from blip.tracking import registry, store
from blip.tracking.runs import stage_run
from flows.addresses import reserved_port
from flows.servers import Server, started
from tests.tracking.test_registry import make_model, register


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """The folder of the server, in which the pipeline's projects do not look."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(empty_store, folder)
    return folder


@pytest.fixture
def server(elsewhere: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that takes artifacts over HTTP, and the environment that leads there."""
    stores = ("--backend-store-uri", f"sqlite:///{elsewhere}/mlflow.db")
    artifacts = ("--artifacts-destination", str(elsewhere / "artifacts"))
    with reserved_port("mlflow") as port:
        where = ("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with started(Server("mlflow", port, (*where, *stores, *artifacts), quiet, "/health")) as running:
            running.wait_until_up()
            monkeypatch.setenv("MLFLOW_TRACKING_URI", running.server.url)
            yield running.server.url


def test_a_champion_is_fetched_once_and_again_when_it_is_another(
    server: str, elsewhere: Path, project: Path
) -> None:
    with stage_run("register", load_settings()) as run:
        first, _ = register(run, make_model(project / "models/vqa", 1.0), 0.70)
        second, _ = register(run, make_model(project / "models/vqa", 2.0), 0.80)
    assert not (project / store.ARTIFACTS).exists()
    registry.promote("blip-vqa", first.number)
    found = registry.resolve("models:/blip-vqa@champion")
    assert registry.weights_digest(found) == first.digest
    kept = project / store.STATE / "models"
    assert found.is_relative_to(kept)
    shutil.rmtree(elsewhere / "artifacts")
    assert registry.resolve("models:/blip-vqa@champion") == found
    with pytest.raises(BlipError, match=r"blip-vqa version 2 cannot be fetched: "):
        registry.resolve(f"models:/blip-vqa/{second.number}")
    assert [path.name for path in kept.iterdir()] == [found.relative_to(kept).parts[0]]


def test_outside_a_project_nothing_is_left_where_one_stands(
    server: str, project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage_run("register", load_settings()) as run:
        first, _ = register(run, make_model(project / "models/vqa", 1.0), 0.70)
    anywhere, cache = tmp_path_factory.mktemp("anywhere"), tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(anywhere)
    found = registry.resolve(f"models:/blip-vqa/{first.number}")
    assert registry.weights_digest(found) == first.digest
    assert found.is_relative_to(cache / "blip")
    assert list(anywhere.iterdir()) == []
