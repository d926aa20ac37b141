"""blip stage evaluate@TASK on small datasets with real models."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.config import Settings
from blip.errors import BadArguments, BlipError
from blip.stages import evaluate, run_stage
from blip.tracking.measured import from_json
from blip.tracking.registry import weights_digest

from .conftest import ROOT

METRICS = {
    "retrieval": [f"retrieval.{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)],
    "captioning": [f"captioning.{name}" for name in ("exact_match", "cider", "bleu4", "rouge_l")],
    "vqa": [f"vqa.{name}" for name in ("accuracy", "open_accuracy", "question_only", "question_only_open")],
    "classification": ["classification.top1", "classification.top5"],
    "video": ["video.t2v_r1", "video.t2v_r5", "video.t2v_r10", "video.v2t_r1"],
}


def examples_of(task: str) -> dict:
    return json.loads(Path(f"reports/evaluate/{task}/examples.json").read_text())


def pictures_in(value: object) -> set[str]:
    """Every picture that some part of examples.json names."""
    if isinstance(value, dict):
        return set().union(*map(pictures_in, value.values()))
    if isinstance(value, list):
        return set().union(*map(pictures_in, value))
    return {value} if isinstance(value, str) and value.startswith("images/") else set()


@pytest.mark.parametrize("task", METRICS)
def test_a_task_leaves_its_metrics_examples_and_exactly_the_pictures_they_name(
    task: str, evaluation_settings: Settings
) -> None:
    figures = run_stage(f"evaluate@{task}", evaluation_settings)
    written = from_json(json.loads(Path(f"metrics/evaluate_{task}.json").read_text()), "")
    assert written.figures == figures
    model = weights_digest(Path("models", task if Path("models", task).is_dir() else "retrieval"))
    assert {written.measured[name].problem(model, evaluation_settings) for name in METRICS[task]} == {""}
    assert set(METRICS[task]) <= set(figures)
    assert all(0 <= figures[name] <= 1 for name in METRICS[task])
    examples = examples_of(task)
    assert examples["task"] == task and examples["examples"]
    there = {f"images/{path.name}" for path in Path(f"reports/evaluate/{task}/images").iterdir()}
    assert there == pictures_in(examples)
    with Path(f"reports/evaluate/{task}/predictions.csv").open(newline="") as handle:
        assert len(list(csv.DictReader(handle))) == examples["selection"]["of"]


@pytest.mark.parametrize("task", METRICS)
def test_the_command_tells_what_the_stage_does(
    blip, task: str, evaluation_settings: Settings, tmp_path: Path
) -> None:
    figures = run_stage(f"evaluate@{task}", evaluation_settings)
    written = from_json(json.loads(Path(f"metrics/evaluate_{task}.json").read_text()), "").measured[
        METRICS[task][0]
    ]
    settings = getattr(evaluation_settings.evaluate, task).model_dump()
    named = {name: f"data/datasets/{settings.pop(name)}" for name in ("data", "train") if name in settings}
    changes = [text for name, value in settings.items() for text in ("--set", f"{name}={json.dumps(value)}")]
    train = ("--train", named["train"]) if "train" in named else ()
    model = f"models/{task if Path('models', task).is_dir() else 'retrieval'}"
    same = (
        "--model",
        model,
        "--device",
        "cpu",
        "--seed",
        evaluation_settings.seed,
        "--out",
        tmp_path / "out",
    )
    ended = blip("evaluate", task, named["data"], *train, *changes, *same, "--json")
    told = json.loads(ended.out)
    assert told["metrics"] == {name: value for name, value in figures.items() if name != "seconds"}
    assert ((told["weights"],), told["data"]) == (written.weights, written.data)
    files = {
        path.relative_to(tmp_path / "out"): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")
    }
    report = Path("reports/evaluate", task)
    assert files == {path.relative_to(report): path.read_bytes() for path in report.rglob("*.*")}


def test_the_same_models_and_data_give_the_same_report(evaluation_settings: Settings) -> None:
    first = run_stage("evaluate@retrieval", evaluation_settings) | {"seconds": 0}
    files = [path.read_bytes() for path in sorted(Path("reports/evaluate/retrieval").rglob("*.*"))]
    assert run_stage("evaluate@retrieval", evaluation_settings) | {"seconds": 0} == first
    assert [path.read_bytes() for path in sorted(Path("reports/evaluate/retrieval").rglob("*.*"))] == files


def test_classes_are_the_true_labels(evaluation_settings: Settings) -> None:
    run_stage("evaluate@classification", evaluation_settings)
    assert all(example["label"].isupper() for example in examples_of("classification")["examples"])


def test_samples_that_validation_set_aside_are_not_evaluated(evaluation_settings: Settings) -> None:
    aside = Path("data/datasets/validated/test.parquet")
    aside.parent.mkdir()
    pq.write_table(pa.table({"key": ["test-0000", "test-0001"], "expectation": ["size", "size"]}), aside)
    try:
        run_stage("evaluate@captioning", evaluation_settings)
    finally:
        shutil.rmtree(aside.parent)
    with Path("reports/evaluate/captioning/predictions.csv").open(newline="") as handle:
        keys = {row["key"] for row in csv.DictReader(handle)}
    assert len(keys) == 18 and "test-0000" not in keys


def test_a_missing_model_names_the_stage_that_makes_it_and_leaves_the_report_as_it_was(
    evaluation_settings: Settings,
) -> None:
    Path("models/vqa").rename("models/elsewhere")
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    try:
        with pytest.raises(BlipError, match="dvc repro finetune@vqa"):
            run_stage("evaluate@vqa", evaluation_settings)
    finally:
        Path("models/elsewhere").rename("models/vqa")
        Path("dvc.yaml").unlink()


def test_an_unknown_task_is_refused(evaluation_settings: Settings) -> None:
    known = "retrieval, captioning, vqa, classification, video, nlvr, visdial"
    with pytest.raises(BadArguments, match=f"there are: {known}"):
        evaluate.run(evaluation_settings, None, "depth")  # type: ignore[arg-type]
