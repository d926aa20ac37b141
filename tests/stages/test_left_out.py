"""A task that is null in the settings: its stages leave behind what DVC waits for, empty, and nothing asks for more."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from blip.config import Settings, load_settings
from blip.data.pairs import PairsDataset, excluded_keys
from blip.errors import BadArguments, BlipError
from blip.report.artefacts import read_artefacts
from blip.stages import run_stage
from blip.tasks.inputs import labels_of

from .conftest import ROOT
from .test_ingest import draw

NO_QUESTIONS: dict[str, Any] = {
    **{f"ingest.datasets.{name}": None for name in ("vqa_train", "vqa_validation", "vqa_test", "video")},
    **{"finetune.vqa": None, "evaluate.vqa": None, "evaluate.video": None},
}


def settings_of(**changes: Any) -> Settings:
    overrides = NO_QUESTIONS | {name.replace("__", "."): value for name, value in changes.items()}
    return load_settings(ROOT / "params.yaml", overrides=overrides)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLIP_WORKERS", "1")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("stage", "made"),
    [
        ("finetune@vqa", ["models/vqa", "metrics/curves/finetune_vqa.csv"]),
        ("evaluate@vqa", ["reports/evaluate/vqa"]),
        ("evaluate@video", ["reports/evaluate/video"]),
    ],
)
def test_its_stages_make_empty_outputs_and_no_figure(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    made: list[str],
) -> None:
    before = project / made[0] / "of an earlier run"
    before.mkdir(parents=True)
    with pytest.raises(BadArguments, match=r"is null in the settings, so there is nothing to do"):
        run_stage(stage, settings_of())
    assert before.is_dir(), "what lies there was perhaps trained by hand"
    monkeypatch.setenv("DVC_STAGE", stage)
    assert run_stage(stage, settings_of()) == {}
    folder, *files = map(Path, made)
    assert list(folder.iterdir()) == [] and all(file.read_bytes() == b"" for file in files)
    assert json.loads(Path(f"metrics/{stage.replace('@', '_')}.json").read_text()) == {}
    assert f"{stage}: left out, as {stage.replace('@', '.')} is null" in capsys.readouterr().out
    found = read_artefacts(project)
    assert (found.left_out, found.stages) == ({stage}, {})
    assert not Path("mlruns").exists()


def test_its_datasets_are_empty_folders_that_validation_passes_over(project: Path) -> None:
    outs = [f"data/datasets/{name}" for name in ("human", "web", "validation", "test", "video", "vocabulary")]
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"ingest": {"cmd": "", "outs": outs}}}))
    names = ("human", "web", "validation", "test")
    for place, name in enumerate(names):
        for seed in range(16):
            draw(project / f"sources/{name}/thing {'abcdefghijklmnop'[seed]}.png", 100 * place + seed)
    roles = dict(zip(names, ("train", "train", "evaluation", "evaluation"), strict=True))
    sources: dict[str, Any] = {
        name: {"source": f"sources/{name}", "kind": "folder", "origin": "human", "role": role}
        for name, role in roles.items()
    }
    before = project / "data/datasets/video/shards"
    before.mkdir(parents=True)
    settings = settings_of(
        ingest__datasets=sources | {"video": None},
        ingest__vocabulary__size=100,
        evaluate__classification=None,
    )
    figures = run_stage("ingest", settings)
    assert list(Path("data/datasets/video").iterdir()) == []
    assert "ingest.human.samples" in figures and not any("video" in name for name in figures)
    run_stage("validate", settings)
    assert pq.read_table("data/datasets/validated/video.parquet").num_rows == 0
    assert excluded_keys(Path("data/datasets/validated"), "human") == frozenset()


def test_the_gate_asks_nothing_of_a_model_that_is_not_made() -> None:
    assert "blip-vqa" not in settings_of().gate
    assert settings_of().gate.keys() == load_settings(ROOT / "params.yaml").gate.keys() - {"blip-vqa"}


def test_settings_that_were_written_down_leave_out_the_same() -> None:
    written = settings_of().model_dump(mode="json", by_alias=True)
    again = Settings.model_validate(yaml.safe_load(yaml.safe_dump(written)))
    assert again.ingest.without == ("vqa_train", "vqa_validation", "vqa_test", "video")
    assert (again.finetune.vqa, again.evaluate.video) == (None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluate__vqa": {"data": "test"}}, r"evaluate\.vqa: finetune\.vqa is null"),
        (
            {"evaluate__video": {"data": "video"}},
            r"evaluate\.video reads video.*or make evaluate\.video null",
        ),
        ({"ingest__datasets__web": None}, r"pretrain reads web, null in ingest\.datasets; give it a source$"),
        (
            {"ingest__datasets__validation": None, "capfilt__held_out": "test"},
            r"filter reads validation, null",
        ),
        (
            {"finetune__vqa": load_settings(ROOT / "params.yaml").finetune.vqa},
            r"vqa reads vqa_train, vqa_validation, null",
        ),
        ({"finetune__retrieval": None}, r"finetune\.retrieval"),
    ],
)
def test_what_something_reads_cannot_be_left_out(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadArguments, match=message):
        settings_of(**change)


@pytest.mark.parametrize(("names", "labels"), [("abcdef", 0), ("aaabbb", 6)])
def test_captions_that_no_two_pictures_share_are_no_classes(
    blip, project: Path, monkeypatch: pytest.MonkeyPatch, names: str, labels: int
) -> None:
    for number, name in enumerate(names):
        draw(project / f"pictures/thing {name} {number}.png", number)
    assert blip("ingest", "pictures", "--out", "data/datasets/test").code == 0
    assert len(labels_of(PairsDataset.open(Path("data/datasets/test")))) == labels
    monkeypatch.setenv("DVC_STAGE", "evaluate@classification")
    if labels:
        with pytest.raises(BlipError, match="models/retrieval: there is no such model"):
            run_stage("evaluate@classification", settings_of())
    else:
        assert run_stage("evaluate@classification", settings_of()) == {}
        assert json.loads(Path("metrics/evaluate_classification.json").read_text()) == {}
    monkeypatch.delenv("DVC_STAGE")
