"""Who may become the champion."""

from pathlib import Path

import pytest

from blip.errors import BlipError
from blip.tracking.gate import judge, read_scores

GATE = {"retrieval.i2t_r1": 0.30, "retrieval.t2i_r1": 0.30}

TWO_POINTS = dict.fromkeys(("retrieval.i2t_r1", "retrieval.t2i_r1", "vqa.accuracy"), 0.02)


def test_figures_that_reach_the_minimums_pass() -> None:
    verdict = judge(GATE, {"retrieval.i2t_r1": 0.30, "retrieval.t2i_r1": 0.61}, {}, tolerance=TWO_POINTS)
    assert verdict.passed
    assert verdict.good_enough


def test_one_figure_below_its_minimum_is_named() -> None:
    verdict = judge(GATE, {"retrieval.i2t_r1": 0.61, "retrieval.t2i_r1": 0.29}, {}, tolerance=TWO_POINTS)
    assert not verdict.passed
    assert not verdict.good_enough
    assert verdict.reasons == ["retrieval.t2i_r1 is 0.290, below the gate's 0.3"]


def test_a_figure_nobody_measured_does_not_pass() -> None:
    verdict = judge(
        GATE, {"retrieval.i2t_r1": 0.61, "retrieval.t2i_r1": float("nan")}, {}, tolerance=TWO_POINTS
    )
    assert verdict.reasons == ["retrieval.t2i_r1 is not a number"]
    verdict = judge({"vqa.accuracy": 0.6}, {"retrieval.i2t_r1": 0.61}, {}, tolerance=TWO_POINTS)
    assert verdict.reasons == ["vqa.accuracy is not measured: no metrics/*.json has it"]
    assert not verdict.good_enough


def test_of_a_figure_that_is_called_otherwise_the_name_is_told() -> None:
    old, new = "pretrain_bootstrapped.validation.i2t_r1", "pretrain_bootstrapped.validation.itc.i2t_r1"
    figures = {new: 0.3, "finetune.retrieval.validation.i2t_r1": 0.4}
    verdict = judge({old: 0.2}, figures, {}, tolerance={old: 0.02})
    assert verdict.reasons == [f"{old} is not measured: no metrics/*.json has it; did you mean {new}?"]


@pytest.mark.parametrize(
    ("wanted", "another"),
    [
        ("captioning.cider", "captioner.validation.cider"),
        ("finetune.vqa.validation.accuracy", "finetune.retrieval.validation.t2i_r1"),
        ("pretrain_bootstrapped.validation.itc.i2t_r1", "pretrain.validation.itc.i2t_r1"),
        ("filter.precision", "filter.recall"),
    ],
)
def test_the_figure_of_another_model_or_measure_is_no_hint(wanted: str, another: str) -> None:
    verdict = judge({wanted: 0.2}, {another: 0.4}, {}, tolerance={wanted: 0.02})
    assert verdict.reasons == [f"{wanted} is not measured: no metrics/*.json has it"]


def test_a_figure_of_another_model_does_not_pass() -> None:
    unfit = {"vqa.accuracy": "measured on other weights"}
    verdict = judge({"vqa.accuracy": 0.6}, {"vqa.accuracy": 0.7}, {}, tolerance=TWO_POINTS, unfit=unfit)
    assert verdict.reasons == ["vqa.accuracy is measured on other weights"]
    assert not verdict.good_enough


def test_a_champion_is_replaced_by_one_within_the_tolerance_only() -> None:
    champion = {"retrieval.i2t_r1": 0.66, "retrieval.t2i_r1": 0.69}
    assert judge(
        GATE, {"retrieval.i2t_r1": 0.65, "retrieval.t2i_r1": 0.70}, champion, tolerance=TWO_POINTS
    ).passed
    behind = judge(GATE, {"retrieval.i2t_r1": 0.63, "retrieval.t2i_r1": 0.75}, champion, tolerance=TWO_POINTS)
    assert not behind.passed
    assert behind.good_enough
    assert behind.reasons == ["retrieval.i2t_r1 is 0.630, a champion had 0.660 (tolerance 0.02)"]


def test_a_figure_the_champion_never_had_is_no_obstacle() -> None:
    assert judge(
        {"vqa.accuracy": 0.6}, {"vqa.accuracy": 0.7}, {"other": 0.9}, tolerance={"vqa.accuracy": 0.0}
    ).passed


def test_figures_come_from_the_stages_not_from_what_is_derived(tmp_path: Path) -> None:
    (tmp_path / "evaluate_vqa.json").write_text('{"vqa.accuracy": 0.8, "seconds": 12.5}')
    (tmp_path / "filter.json").write_text('{"filter.roc_auc": 0.93}')
    (tmp_path / "summary.json").write_text('{"vqa.accuracy": 0.1}')
    (tmp_path / "register.json").write_text('{"register.blip-vqa.passed": 1}')
    assert read_scores(tmp_path).figures == {"vqa.accuracy": 0.8, "filter.roc_auc": 0.93}


def test_a_file_that_holds_no_figures_is_named(tmp_path: Path) -> None:
    (tmp_path / "filter.json").write_text('{"filter": {"roc_auc": 0.93}}')
    with pytest.raises(BlipError, match=r"filter\.json: not a flat JSON object"):
        read_scores(tmp_path)
