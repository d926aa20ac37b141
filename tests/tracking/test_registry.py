"""Versions, aliases, lineage and the way back to a directory, in a real MLflow registry."""

import shutil
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import save_file

from blip.config import Settings
from blip.errors import BlipError
from blip.model.checkpoints import read_files
from blip.tracking import packaging, registry, store
from blip.tracking.runs import StageRun, stage_run

ROOT = Path(__file__).parents[2]


def make_model(directory: Path, value: float) -> Path:
    """A directory with the files that make a model directory; what is in them does not matter here."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file({"weight": torch.full((4,), value)}, directory / "model.safetensors")
    (directory / "config.json").write_text("{}")
    return directory


def register(
    run: StageRun, directory: Path, accuracy: float, how: str = "as ever"
) -> tuple[registry.Version, bool]:
    return registry.register(
        "blip-vqa",
        directory,
        run_id=run.run_id,
        figures={"vqa.accuracy": accuracy},
        how={"vqa.accuracy": how},
        tags={"blip.git_commit": "4f0c"},
        task="answer",
    )


def aliases() -> dict[str, str]:
    return store.client().get_registered_model("blip-vqa").aliases


def test_the_same_weights_are_one_version(settings: Settings, project: Path) -> None:
    with stage_run("register", settings) as run:
        first, is_new = register(run, make_model(project / "models/vqa", 1.0), 0.70)
        assert (first.number, is_new) == (1, True)
        again, is_new = register(run, make_model(project / "elsewhere/vqa", 1.0), 0.75)
        assert (again.number, is_new) == (1, False)
        other, is_new = register(run, make_model(project / "models/vqa", 2.0), 0.80)
        assert (other.number, is_new) == (2, True)
    found = registry.find("blip-vqa", first.digest)
    assert found is not None
    assert found.figures == {"vqa.accuracy": 0.75}


def test_the_same_weights_served_otherwise_are_another_version(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = project / "package"
    for name in ("serving/pyfunc.py", "report/page.py"):
        (package / name).parent.mkdir(parents=True)
        (package / name).write_text("as it was")
    monkeypatch.setattr(packaging, "save", lambda directory, target, *_, **__: make_model(target, 0.0))
    monkeypatch.setattr(packaging, "PACKAGE", package)
    made = make_model(project / "models/vqa", 1.0)
    with stage_run("register", settings) as run:
        assert register(run, made, 0.7)[0].number == 1
        (package / "report/page.py").write_text("no part of an answer")
        assert register(run, made, 0.7)[0].number == 1
        (package / "serving/pyfunc.py").write_text("mended")
        assert register(run, made, 0.7)[0].number == 2
        (made / "config.json").write_text('{"image_size": 384}')
        assert register(run, made, 0.7)[0].number == 3
        assert register(run, made, 0.7) == (registry.find("blip-vqa", registry.weights_digest(made)), False)


def test_a_model_that_another_pipeline_creates_meanwhile_is_no_error(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = registry._log_model

    def slowly(client: MlflowClient, name: str, *arguments: Any, **named: Any) -> str:
        client.create_registered_model(name)
        return uploads(client, name, *arguments, **named)

    monkeypatch.setattr(registry, "_log_model", slowly)
    monkeypatch.setattr(MlflowClient, "search_registered_models", lambda *_, **__: [])  # asked before
    with stage_run("register", settings) as run:
        assert register(run, make_model(project / "models/vqa", 1.0), 0.7)[0].number == 1


@pytest.mark.parametrize("at", ["log_model_artifacts", "finalize_logged_model", "create_model_version"])
def test_a_model_whose_storing_was_ended_is_not_there_twice(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def killed(*arguments: object, **named: object) -> None:
        raise SystemExit(143)

    directory = make_model(project / "models/vqa", 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, at, killed)
        with pytest.raises(SystemExit), stage_run("register", settings) as run:
            register(run, directory, 0.70)
    with stage_run("register", settings) as run:
        version, is_new = register(run, directory, 0.75)
        stored = store.client().search_logged_models([store.client().get_run(run.run_id).info.experiment_id])
    assert (version.number, is_new, len(stored)) == (1, True, 1)
    assert registry.named("models:/blip-vqa/1").figures == {"vqa.accuracy": 0.75}
    assert (registry.resolve("models:/blip-vqa/1") / "model.safetensors").is_file()


def test_the_champion_is_what_the_alias_opens(settings: Settings, project: Path) -> None:
    with stage_run("register", settings) as run:
        for value in (1.0, 2.0):
            register(run, make_model(project / "models/vqa", value), value / 10)
    assert registry.champion("blip-vqa") is None
    registry.promote("blip-vqa", 1)
    registry.promote("blip-vqa", 2, registry.CHALLENGER)
    champion = registry.champion("blip-vqa")
    assert champion is not None
    assert (champion.number, champion.figures) == (1, {"vqa.accuracy": 0.1})
    registry.promote("blip-vqa", "2")
    assert {alias: int(number) for alias, number in aliases().items()} == {"champion": 2}


def test_a_version_leads_back_to_its_directory_and_its_origin(settings: Settings, project: Path) -> None:
    with stage_run("register", settings) as run:
        register(run, make_model(project / "models/vqa", 1.0), 0.7)
    registry.promote("blip-vqa", 1)
    for uri in ("models:/blip-vqa@champion", "models:/blip-vqa/1"):
        directory = registry.resolve(uri)
        assert registry.weights_digest(directory) == registry.weights_digest(project / "models/vqa")
        assert (directory / "config.json").is_file()
    version = store.client().get_model_version("blip-vqa", "1")
    assert version.run_id == run.run_id
    assert version.tags["blip.git_commit"] == "4f0c"
    assert version.tags["figure.vqa.accuracy"] == "0.7"
    logged = store.client().get_logged_model(version.source.removeprefix("models:/"))
    assert (logged.source_run_id, logged.status) == (run.run_id, "READY")
    assert logged.experiment_id == store.client().get_run(run.run_id).info.experiment_id


def test_a_project_folder_can_be_renamed(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage_run("register", settings) as run:
        register(run, make_model(project / "models/vqa", 1.0), 0.7)
    project.rename(project.with_name("elsewhere"))
    monkeypatch.chdir(project.with_name("elsewhere"))
    assert registry.resolve("models:/blip-vqa/1").is_dir()


def test_what_is_not_there_is_said_with_what_is(settings: Settings, project: Path) -> None:
    with pytest.raises(BlipError, match="no registered model 'blip-vqa'; the registry has: none yet"):
        registry.resolve("models:/blip-vqa@champion")
    with stage_run("register", settings) as run:
        register(run, make_model(project / "models/vqa", 1.0), 0.7)
    with pytest.raises(BlipError, match="blip-vqa has no alias 'champion'; it has version 1"):
        registry.resolve("models:/blip-vqa@champion")
    with pytest.raises(BlipError, match="blip-vqa has no version 7; it has version 1"):
        registry.promote("blip-vqa", 7)
    with pytest.raises(BlipError, match="no registered model 'blip-vga'; the registry has: blip-vqa"):
        registry.promote("blip-vga", 1)


def test_a_folder_without_a_registry_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BlipError, match="no model registry here"):
        registry.resolve("models:/blip-vqa@champion")
    with pytest.raises(BlipError, match="blip-vqa: no model registry here"):
        registry.promote("blip-vqa", 2)
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_is_the_home_folder_and_no_name_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vqa").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert registry.resolve("~/vqa") == tmp_path / "vqa"
    with pytest.raises(BlipError, match="the name of the model is empty"):
        registry.resolve("")


def test_a_directory_stands_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_model(Path("models/vqa"), 1.0)
    assert registry.resolve("models/vqa") == Path("models/vqa")
    with pytest.raises(BlipError, match="models/vga: no such model directory"):
        registry.resolve("models/vga")


def test_of_a_model_of_the_pipeline_that_is_not_there_it_is_said_what_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    made = r"`dvc repro finetune@retrieval` makes it, or `dvc pull` brings it"
    with pytest.raises(BlipError, match=f"models/retrieval: no such model directory; {made}"):
        registry.resolve("models/retrieval")
    with pytest.raises(BlipError, match=f"models/retrieval: no such model directory; {made}"):
        read_files(Path("models/retrieval"))
    with pytest.raises(BlipError, match=f"models/retrieval: no model there .*; {made}"):
        registry.weights_digest(Path("models/retrieval"))
    with pytest.raises(BlipError, match="models/mine: no such model directory; run what writes it"):
        registry.resolve("models/mine")


def test_a_directory_without_weights_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BlipError, match="no model there"):
        registry.weights_digest(tmp_path)


class Failing(BaseHTTPRequestHandler):
    """A tracking server that is there, and whose registry cannot answer."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self) -> None:
        self.send_error(503)

    def log_message(self, *_: object) -> None:
        pass


def test_a_registry_that_does_not_answer_is_not_one_without_a_champion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(BlipError, match="does not say which version of blip-vqa is champion"):
            registry.champion("blip-vqa")
        server.shutdown()


def test_the_members_of_a_filter_are_part_of_what_a_version_is(settings: Settings, project: Path) -> None:
    with stage_run("register", settings) as run:
        made = make_model(project / "models/vqa", 1.0)
        assert register(run, made, 0.7)[0].number == 1
        make_model(made / "members/2", 2.0)
        assert register(run, made, 0.8)[0].number == 2
        make_model(made / "members/2", 3.0)
        assert register(run, made, 0.8)[0].number == 3
        again, is_new = register(run, made, 0.9)
        assert (again.number, is_new) == (3, False)


def test_weights_that_are_known_keep_where_they_came_from(settings: Settings, project: Path) -> None:
    with stage_run("register", settings) as run:
        made = make_model(project / "models/vqa", 1.0)
        for commit in ("trained", "later"):
            tags = {"blip.git_commit": commit}
            registry.register(
                "blip-vqa", made, run_id=run.run_id, figures={}, how={}, tags=tags, task="answer"
            )
    assert store.client().get_model_version("blip-vqa", "1").tags["blip.git_commit"] == "trained"


def test_what_was_reached_stays_exact(settings: Settings, project: Path) -> None:
    with stage_run("register", settings) as run:
        made, _ = register(run, make_model(project / "models/vqa", 1.0), 2 / 3)
    assert registry.promote("blip-vqa", made.number, best={"vqa.accuracy": 5 / 7}).figures == {
        "vqa.accuracy": 2 / 3
    }
    champion = registry.champion("blip-vqa")
    assert champion is not None
    assert (champion.figures, champion.best) == ({"vqa.accuracy": 2 / 3}, {"vqa.accuracy": 5 / 7})


def test_what_is_measured_otherwise_has_no_best_of_before(settings: Settings, project: Path) -> None:
    with stage_run("register", settings) as run:
        made = make_model(project / "models/vqa", 1.0)
        register(run, made, 0.7)
        registry.promote("blip-vqa", 1, best={"vqa.accuracy": 0.8})
        assert register(run, made, 0.7)[0].best == {"vqa.accuracy": 0.8}
        harder, _ = register(run, made, 0.5, how="harder")
    assert (harder.best, harder.how) == ({"vqa.accuracy": 0.5}, {"vqa.accuracy": "harder"})
    assert registry.champion("blip-vqa") == harder
