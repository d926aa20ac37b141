"""The summary and the result table."""

import json
from pathlib import Path

import pytest

from blip.config import Settings
from blip.report.artefacts import read_artefacts
from blip.report.results import Baseline, baselines, result_table, summary

WANTED = {  # the figures that metrics/summary.json promises
    "retrieval.i2t_r1",
    "retrieval.i2t_r10",
    "retrieval.t2i_r1",
    "retrieval.t2i_r10",
    "captioning.exact_match",
    "captioning.cider",
    "filter.roc_auc",
    "bootstrap.r1_noisy",
    "bootstrap.r1_bootstrapped",
    "vqa.accuracy",
    "vqa.open_accuracy",
    "vqa.question_only",
    "video.t2v_r1",
    "seconds.total",
}


def test_the_summary_has_every_figure_of_a_finished_pipeline(finished: Path) -> None:
    found = read_artefacts(finished)
    figures = summary(found, 0.54)
    assert figures.keys() >= WANTED
    assert figures["seconds.total"] == sum(found.seconds.values()) + 0.5


def test_the_time_of_all_is_not_told_before_all_have_run(finished: Path) -> None:
    (finished / "metrics/compare.json").unlink()
    assert "seconds.total" not in summary(read_artefacts(finished), 1.0)


def test_the_summary_compares_pre_training_by_the_embeddings_alone(finished: Path) -> None:
    figures = summary(read_artefacts(finished), 1.0)
    compared = json.loads((finished / "metrics/compare.json").read_text())
    assert figures["bootstrap.r1_noisy"] == compared["compare.pretrain.itc.i2t_r1"]
    assert figures["bootstrap.r1_bootstrapped"] == compared["compare.bootstrapped.itc.i2t_r1"]


def test_the_summary_has_the_seconds_of_each_stage(finished: Path) -> None:
    figures = summary(read_artefacts(finished), 1.0)
    assert figures["seconds.pretrain"] == 131.0
    assert "seconds.finetune_vqa" in figures


def test_what_was_not_measured_is_left_out_of_the_summary(finished: Path) -> None:
    (finished / "metrics/evaluate_vqa.json").unlink()
    figures = summary(read_artefacts(finished), 1.0)
    assert not [name for name in figures if name.startswith("vqa.")]
    assert "retrieval.i2t_r1" in figures


def test_the_table_shows_every_gate(finished: Path, settings: Settings) -> None:
    gates = {**settings.register_.gate, "blip-nlvr": {"nlvr.accuracy": 0.7}}
    rows = {row.name: row for row in result_table(read_artefacts(finished), gates)}
    gated = {figure for minimums in gates.values() for figure in minimums}
    assert gated == {name for name, row in rows.items() if row.gate}
    assert rows["nlvr.accuracy"].value is None
    assert rows["nlvr.accuracy"].passed is None


@pytest.mark.parametrize(("minimum", "passed"), [(0.5, True), (0.663, True), (0.67, False)])
def test_a_figure_passes_from_its_gate_on(finished: Path, minimum: float, passed: bool) -> None:
    table = result_table(read_artefacts(finished), {"blip-retrieval": {"retrieval.i2t_r1": minimum}})
    assert [row.passed for row in table if row.gate] == [passed]


def test_chance_is_what_the_tasks_reckoned(finished: Path) -> None:
    known = baselines(read_artefacts(finished).figures)
    assert known["retrieval.i2t_r10"] == Baseline(0.41, "chance, 25 texts")
    assert known["retrieval.t2i_r1"] == Baseline(0.04, "chance, 24 pictures")
    assert known["video.t2v_r1"] == Baseline(0.17, "chance, 6 clips")
    assert known["classification.top1"] == Baseline(1 / 24, "chance, 24 classes")
    assert known["captioning.exact_match"] == Baseline(0.042, "always the commonest")


def test_the_baseline_of_questions_is_answering_without_looking(finished: Path) -> None:
    known = baselines(read_artefacts(finished).figures)
    assert known["vqa.accuracy"] == Baseline(0.667, "question only")
    assert known["vqa.open_accuracy"] == Baseline(0.222, "question only")


def test_what_a_task_does_not_tell_has_no_baseline() -> None:
    assert set(baselines({"video.t2v_r1": 0.5, "video.clips": 9.0})) == {
        "filter.roc_auc",
        "filter.validation_auc",
        "capfilt.validation_auc",
    }


def test_figures_of_the_pool_stand_in_a_group_that_says_so(finished: Path) -> None:
    groups = {row.name: row.group for row in result_table(read_artefacts(finished), {})}
    of_pool = [name for name, group in groups.items() if "pre-training has read" in group]
    assert of_pool == ["filter.roc_auc", "filter.precision", "filter.recall"]
    assert "validation data" in groups["captioner.validation.exact_match"]


def test_what_the_data_cannot_tell_has_no_row_unless_a_gate_asks_for_it(finished: Path) -> None:
    some = {"filter.roc_auc", "filter.precision", "filter.recall", "vqa.open_accuracy"}
    for stage in ("capfilt", "evaluate_vqa"):
        path = finished / f"metrics/{stage}.json"
        figures = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in figures.items() if name not in some}))
    found = read_artefacts(finished)
    assert some.isdisjoint(row.name for row in result_table(found, {}))
    asked = result_table(found, {"blip-filter": {"filter.precision": 0.9}})
    assert [(row.name, row.value) for row in asked if row.of_pool] == [("filter.precision", None)]


def test_what_no_stage_has_measured_yet_has_a_row(finished: Path) -> None:
    (finished / "metrics/capfilt.json").unlink()
    rows = {row.name: row.value for row in result_table(read_artefacts(finished), {}) if row.of_pool}
    assert rows == {"filter.roc_auc": None, "filter.precision": None, "filter.recall": None}


def test_cider_is_shown_on_its_own_scale(finished: Path) -> None:
    rows = {row.name: row for row in result_table(read_artefacts(finished), {})}
    assert rows["captioning.cider"].shown(5.456) == "5.46"
    assert rows["captioning.cider"].share(5.0) == "50.00%"
    assert rows["vqa.accuracy"].shown(0.861) == "86.1%"
