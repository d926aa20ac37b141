"""What dvc.yaml says of its stages; the datasets of the settings against it, as a user with own data meets it."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from blip.config import Ingest, load_settings
from blip.config.dvc_yaml import (
    has_stage,
    settings_read,
    stage_spec,
    unkept,
    unmade,
    unwatched,
    unwatched_files,
)
from blip.doctor.machine import examine
from blip.doctor.sources import sources
from blip.errors import BlipError
from blip.stages import run_stage

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with this project's dvc.yaml and params.yaml, its sample, and pictures of its own."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/sample").symlink_to(ROOT / "data/sample")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(datasets: dict[str, dict[str, str] | None]) -> None:
    """Write other sources into params.yaml; None takes a dataset out."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    found = values["ingest"]["datasets"] | datasets
    values["ingest"]["datasets"] = {name: source for name, source in found.items() if source}
    Path("params.yaml").write_text(yaml.safe_dump(values))


MINE = {"source": "mine", "kind": "table", "origin": "human", "role": "train"}


def test_the_projects_own_settings_are_whole_and_watched(project: Path) -> None:
    ingest = load_settings().ingest
    assert unmade(ingest) == unwatched(ingest.datasets) == []
    assert sources().state == "good"


def test_datasets_that_later_stages_need_are_missed_before_anything_is_read(project: Path) -> None:
    change({"video": None, "vqa_test": None})
    assert unmade(load_settings().ingest) == ["vqa_test", "video"]
    assert sources().state == "bad" and "vqa_test, video" in sources().text
    with pytest.raises(BlipError, match=r"has no vqa_test, video, and dvc\.yaml has stages that read"):
        run_stage("ingest", load_settings())
    assert not Path("data/datasets").exists()


def test_a_folder_that_dvc_does_not_watch_is_named(project: Path) -> None:
    change({"human": MINE})
    assert unwatched(load_settings().ingest.datasets) == ["mine"]
    assert sources().state == "note" and "mine: not among the deps" in sources().text
    pipeline = Path("dvc.yaml").read_text().replace("deps: [data/sample,", "deps: [mine, data/sample,")
    Path("dvc.yaml").write_text(pipeline)
    assert unwatched(load_settings().ingest.datasets) == []


def test_files_that_settings_name_and_dvc_does_not_watch_are_named(
    project: Path, blip: Callable[..., Any]
) -> None:
    (project / "mine/vit.safetensors").write_bytes(b"weights")
    (project / "mine/recipe.yaml").write_text("model: {start: mine/vit.safetensors}")
    values = yaml.safe_load(Path("params.yaml").read_text()) | {"recipe": "mine/recipe.yaml"}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    trained = ("pretrain", "pretrain_bootstrapped", "rounds")
    assert unwatched_files(load_settings()) == {
        "mine/vit.safetensors": trained,
        "mine/recipe.yaml": ("settings",),
    }
    assert sources().state == "note" and "mine/recipe.yaml among those of settings" in sources().text
    told = blip("settings", "--out", "settings.yaml", "--watch", "watched.yaml").out
    assert "note: DVC does not see when mine/vit.safetensors changes: add it to the deps of pretrain," in told
    pipeline = Path("dvc.yaml").read_text().replace("data/sample/weights", "data/sample/weights, mine")
    Path("dvc.yaml").write_text(pipeline.replace("deps: [params.yaml,", "deps: [mine, params.yaml,"))
    assert unwatched_files(load_settings()) == {}


def test_datasets_that_dvc_yaml_does_not_know_are_named_with_what_to_add(
    project: Path, blip: Callable[..., Any]
) -> None:
    assert unwatched_files(load_settings()) == {} and unkept(load_settings().ingest) == []
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["ingest"]["datasets"] |= {"extra": MINE, "classes": MINE | {"role": "evaluation"}}
    values["pretrain"]["data"] = ["human", "web", "extra"]
    values["filter"]["distractors"] = ["vqa_train"]
    values["evaluate"]["classification"]["data"] = "classes"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    assert unwatched_files(load_settings()) == {
        "data/datasets/vqa_train": ("filter",),
        "data/datasets/extra": ("validate", "pretrain"),
        "data/datasets/classes": ("validate", "evaluate@classification"),
        "data/datasets/validated/vqa_train.parquet": ("filter",),
        "data/datasets/validated/extra.parquet": ("pretrain",),
        "data/datasets/validated/classes.parquet": ("evaluate@classification",),
    }
    told = blip("settings", "--out", "settings.yaml", "--watch", "watched.yaml").out
    assert (
        "note: DVC does not see when data/datasets/extra changes: add it to the deps of validate, pretrain in"
        in told
    )
    assert (
        "does not know that ingest makes data/datasets/extra: add `data/datasets/extra: {persist: true}`"
        in told
    )


def test_a_store_is_watched_where_the_deps_name_it(project: Path) -> None:
    change({"human": MINE | {"source": "s3://bucket/laion/", "kind": "webdataset"}})
    assert unwatched(load_settings().ingest.datasets) == ["s3://bucket/laion/"]
    pipeline = (
        Path("dvc.yaml")
        .read_text()
        .replace("deps: [data/sample,", "deps: ['s3://bucket/laion', data/sample,")
    )
    Path("dvc.yaml").write_text(pipeline)
    assert unwatched(load_settings().ingest.datasets) == []


@pytest.mark.parametrize("place", ["elsewhere/pairs.csv", "somebody/flickr30k"])
def test_a_source_that_is_not_there_is_named(project: Path, place: str) -> None:
    change({"human": MINE | {"source": place}})
    assert sources().state == "bad" and place in sources().text


def test_without_a_pipeline_there_is_nothing_to_hold_against(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ingest = Ingest.model_validate({"datasets": {"human": MINE}})
    assert unmade(ingest) == unwatched(ingest.datasets) == []
    assert not has_stage("ingest")


def test_stages_are_those_of_the_graph(project: Path) -> None:
    assert has_stage("pretrain") and has_stage("finetune@vqa") and has_stage("evaluate@video")
    assert not any(map(has_stage, ("finetune", "finetune@nlvr", "pretrain@vqa", "promote")))


def test_a_foreach_stage_is_filled_in(project: Path) -> None:
    spec = stage_spec("finetune@vqa")
    assert spec["cmd"] == "python -m blip stage finetune@vqa"
    assert "data/datasets/vqa_train" in spec["deps"]
    assert "blip/tasks/vqa.py" in spec["deps"]
    assert spec["outs"] == ["models/vqa"]
    assert stage_spec("unheard-of") == {}


def test_names_in_params_yaml_are_settings_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.yaml").write_text(
        "stages: {a: {cmd: a, params: [seed, {all.yaml: [model, ingest]}, {x.yaml: null}]}}"
    )
    monkeypatch.chdir(tmp_path)
    assert settings_read("a") == ["seed", "model", "ingest"]


def test_a_conflict_of_git_in_them_is_named_by_who_reads_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    (project / ".dvc").mkdir()
    settings = load_settings()
    Path("dvc.lock").write_text("schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n=======\n>>>>>>> theirs\n")
    said = r"^dvc\.lock: has a conflict of git, from line 2 on"
    with pytest.raises(BlipError, match=said):
        run_stage("validate", settings)
    found = {finding.subject: finding for finding in examine()}
    assert re.match(said, found["dvc"].text) and found["dvc"].state == "bad"
    Path("dvc.lock").unlink()

    Path("dvc.yaml").write_text("stages:\n<<<<<<< HEAD\n  a:\n    cmd: a\n=======\n>>>>>>> theirs\n")
    said = r"^dvc\.yaml: has a conflict of git, from line 2 on"
    with pytest.raises(BlipError, match=said):
        run_stage("ingest", settings)
    assert any(re.match(said, finding.text) for finding in examine())


def test_the_note_on_sources_that_dvc_does_not_watch_counts_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("theirs").mkdir()
    told = []
    for other in ("mine", "theirs"):
        change({"human": MINE, "web": MINE | {"source": other, "origin": "web"}})
        with pytest.raises(BlipError):  # there is nothing in them
            run_stage("ingest", load_settings())
        told.append(capsys.readouterr().out)
    assert "does not see when mine changes: add it to the deps of `ingest`" in told[0]
    assert "does not see when mine, theirs change: add them to the deps of `ingest`" in told[1]
