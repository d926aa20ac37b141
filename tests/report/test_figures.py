"""Charts: what they show, and that they follow the page's colours."""

import math
import re
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.patches import Rectangle, StepPatch

from blip.config import Settings
from blip.report.artefacts import read_artefacts
from blip.report.audit import BINS, Audit, bin_of, read_audit
from blip.report.chart import COLOURS
from blip.report.decision import Decision, log_odds, probability_text
from blip.report.figures import (
    compare_charts,
    finetuning_charts,
    loss_charts,
    score_charts,
    source_chart,
    thin,
)
from blip.report.page import draw_charts
from blip.report.pool import Known
from blip.report.sources import Sources


def test_both_pre_training_runs_share_a_chart_for_each_loss(finished: Path) -> None:
    charts = loss_charts(read_artefacts(finished).curves)
    assert [chart.title for chart in charts] == ["ITC loss", "ITM loss", "LM loss"]
    assert [len(chart.figure.axes[0].lines) for chart in charts] == [2, 3, 2]  # ITM has the line of its prior
    assert "noisy pool ends at" in charts[0].text


def test_a_further_run_has_a_chart_for_each_loss_that_it_trains_on(finished: Path) -> None:
    charts = finetuning_charts(read_artefacts(finished).curves, {"captioner": "human"})
    titles = [chart.title for chart in charts]
    assert "filter, ITC" in titles and "filter, ITM" in titles and "filter, LM" not in titles


def test_a_run_that_has_not_begun_is_left_out(finished: Path) -> None:
    (finished / "metrics/curves/pretrain.csv").write_text("step,loss,itc,itm,lm,lr,pairs_per_second\n")
    charts = loss_charts(read_artefacts(finished).curves)
    assert "noisy pool" not in charts[0].text
    assert "bootstrapped ends at" in charts[0].text


def test_scores_are_drawn_by_truth(finished: Path) -> None:
    audit = read_audit(finished / "data/datasets/bootstrapped", finished / "data/datasets/web", seed=7)
    assert audit
    charts = score_charts(audit, 0.5, 0.5)
    assert [chart.title for chart in charts][1] == "Web texts, ITC cosine"
    assert "right: 12; wrong: 12" in charts[0].text


def test_every_source_has_a_bar_for_each_of_its_shares(finished: Path) -> None:
    audit = read_audit(finished / "data/datasets/bootstrapped", finished / "data/datasets/web", seed=7)
    assert audit
    chart = source_chart(audit.sources)
    assert chart
    [axes] = chart.figure.axes
    shares = [source.web_share for source in audit.sources.largest()]
    widths = [bar.get_width() / 100 for bar in axes.patches if isinstance(bar, Rectangle)]
    assert widths[:3] == pytest.approx(shares)
    assert len(widths) == 6
    assert [label.get_text() for label in axes.get_yticklabels()] == ["artist 0", "artist 1", "artist 2"]


def test_a_name_with_dollars_is_no_formula() -> None:
    sources = Sources()
    for name in ("Ca$h_Money_$", "Ke$ha & A$AP"):
        sources.count(Decision("key", (), "kept", "", Known(name)))
    chart = source_chart(sources)
    assert chart is not None and "Ca$h_Money_$" in chart.svg and "Ke$ha &amp; A$AP" in chart.svg


def test_one_source_is_not_drawn() -> None:
    assert source_chart(Sources()) is None


def test_models_are_compared_both_ways(finished: Path) -> None:
    first, second = compare_charts(read_artefacts(finished).figures)
    assert first.title.startswith("Image to text")
    assert len(second.figure.axes[0].patches) == 6
    assert "noisy pool, re-ranked: 16.0%" in first.text


def test_without_figures_there_is_no_comparison() -> None:
    assert compare_charts({}) == []


def test_every_chart_is_well_formed_and_has_the_colours_of_the_page(
    finished: Path, settings: Settings
) -> None:
    found = read_artefacts(finished)
    audit = read_audit(finished / "data/datasets/bootstrapped", finished / "data/datasets/web", seed=7)
    for chart in draw_charts(settings, found, audit).all():
        ElementTree.fromstring(chart.svg)
        assert "var(--" in chart.svg
        assert "<style" not in chart.svg
        assert not re.findall(r"#[0-9a-f]{6}\b(?!\")", chart.svg.replace("clip-path", "")), chart.name


def test_ids_differ_between_charts(finished: Path, settings: Settings) -> None:
    charts = draw_charts(settings, read_artefacts(finished), None).all()
    ids = [name for chart in charts for name in set(re.findall(r' id="([^"]+)"', chart.svg))]
    assert len(ids) == len(set(ids))


def test_colours_are_those_of_the_light_theme() -> None:
    css = files("blip.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", css[: css.index("@media")]))
    assert light.items() >= COLOURS.items()


def test_long_curves_are_averaged_down_and_gaps_skipped() -> None:
    x = [float(n) for n in range(1000)]
    y = [math.nan if n == 3 else float(n % 2) for n in range(1000)]
    steps, values = thin(x, y, points=100)
    assert len(steps) <= 100
    assert steps[-1] == 999
    assert abs(sum(values) / len(values) - 0.5) < 0.01


@pytest.mark.parametrize(
    ("threshold", "text"),
    [
        (0, "0"), (0.009945, "0.00995"), (0.5, "0.5"), (0.9954, "0.995"), (0.99962, "0.99962"), (0.9996, "0.9996"),
        (0.99999951, "0.99999951"), (1 - 2.0**-53, "0.99999999999999989"), (1.0, "1"),
    ],
)  # fmt: skip
def test_a_threshold_below_1_does_not_read_1(threshold: float, text: str) -> None:
    assert probability_text(threshold) == text
    [chart] = score_charts(Audit(histograms={("score", "web"): [3] * BINS}), threshold, threshold)
    assert f"kept from {text}<" in chart.svg


def test_an_axis_of_the_surest_scores_has_ticks_of_its_own() -> None:
    bins = [0] * BINS
    bins[-1] = 3
    [chart] = score_charts(Audit(histograms={("score", "web"): bins}), 0.999998, 0.5)
    ticks = [label.get_text() for label in chart.figure.axes[0].get_xticklabels()]
    assert len(set(ticks)) == 3 and all(tick.startswith("0.99999") for tick in ticks)


@pytest.mark.parametrize("score", [0.0, 0.02, 0.5, 0.501, 0.97, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5, 0.999])
@pytest.mark.filterwarnings("error")
def test_a_threshold_is_in_the_chart_wherever_the_scores_are(score: float, threshold: float) -> None:
    bins = [0] * BINS
    bins[bin_of("score", log_odds(score))] = 3
    [chart] = score_charts(Audit(histograms={("score", "web"): bins}), threshold, threshold)
    [axes] = chart.figure.axes
    low, high = axes.get_xlim()
    assert low <= log_odds(threshold) <= high
    assert low <= log_odds(score) <= high
    assert sum(low <= tick <= high for tick in axes.get_xticks()) >= 2
    assert "kept from" in chart.svg
    chart.figure.draw_without_rendering()
    [label] = axes.texts
    [bar, _] = [stairs for stairs in axes.patches if isinstance(stairs, StepPatch)]
    assert label.get_window_extent().y0 > bar.get_window_extent().y1 + 1
