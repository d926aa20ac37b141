"""Charts: drawn by matplotlib in the page's light colours, shown in the page as SVG that follows its theme.

chart = loss_charts(curves)[0]
run.log_figure(chart.figure, f"{chart.name}.png")     # MLflow gets the picture
chart.svg                                             # the page gets this, colours as CSS variables
"""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from blip.report.artefacts import Curve
from blip.report.audit import BINS, RANGES, Audit, bin_of
from blip.report.chart import COLOURS, WIDE, Chart, axes_of, short, styled
from blip.report.decision import log_odds, probability, probability_text
from blip.report.sources import Sources

LOSSES = {"itc": "ITC", "itm": "ITM", "lm": "LM", "statements": "statement"}
ITM_PRIOR = 0.6365  # cross-entropy of a head that knows only that one pair in three matches: nothing learnt
PRETRAINING = {"pretrain": ("noisy pool", "web"), "pretrain_bootstrapped": ("bootstrapped", "synthetic")}
COMPARED = {
    "pretrain": ("noisy pool", "web"),
    "bootstrapped": ("bootstrapped", "synthetic"),
    "finetuned": ("fine-tuned", "human"),
}
TICKS = (0.00001, 0.001, 0.1, 0.9, 0.999)  # probabilities, on an axis of log-odds
SCORES = {"score": "probability of matching", "itc": "cosine of the embeddings"}
HEADS = {"itc.": "embeddings alone", "": "re-ranked"}
BARS = 25  # of a histogram
ROOM = 1.2  # over the bars of a histogram, for the label of its threshold
POINTS = 240  # of a curve; longer ones are averaged down


def loss_charts(curves: Mapping[str, Curve]) -> list[Chart]:
    """The losses of the two pre-training runs side by side, a chart a loss."""
    runs = {stage: curves[stage] for stage in PRETRAINING if stage in curves}
    return [_pretraining_chart(runs, loss) for loss in LOSSES if any(_has(c, loss) for c in runs.values())]


def finetuning_charts(curves: Mapping[str, Curve], colours: Mapping[str, str]) -> list[Chart]:
    """One chart for each loss of each further run, in the colour of the texts that the run learns from."""
    return [
        _run_chart(stage, curve, loss, colours.get(stage, "human"))
        for stage, curve in curves.items()
        for loss in LOSSES
        if stage not in PRETRAINING and _has(curve, loss)
    ]


def score_charts(audit: Audit, threshold: float, synthetic_threshold: float) -> list[Chart]:
    """How the filter scored the web texts, by truth where it is known, and the synthetic captions."""
    web = [("web right", "right", "good"), ("web wrong", "wrong", "bad"), ("web", "web texts", "web")]
    panels = [
        ("score", "Web texts, probability", web, threshold),
        ("itc", "Web texts, ITC cosine", web, None),
        ("score", "Synthetic captions, probability", [("synthetic", "", "synthetic")], synthetic_threshold),
    ]
    charts = []
    for score, title, groups, line in panels:
        series = [
            (label, colour, audit.histograms[score, name])
            for name, label, colour in groups
            if (score, name) in audit.histograms
        ]
        if series:
            charts.append(_histogram(score, title, series, line))
    return charts


def source_chart(sources: Sources) -> Chart | None:
    """What was kept of the web texts and synthetic captions of each source; None where there is only one."""
    shown = sources.largest()
    if len(shown) < 2:
        return None
    series = {
        "web": ("web texts", [source.web_share for source in shown]),
        "synthetic": ("synthetic captions", [source.synthetic_share for source in shown]),
    }
    title = "Kept share by source, in %"
    with styled(title):
        figure, axes = axes_of("kept, %", width=WIDE, height=0.75 + 0.34 * len(shown))
        for place, (colour, (label, shares)) in enumerate(series.items()):
            at = [row + 0.36 * (place - 0.5) for row in range(len(shown))]
            values = [100 * (share or 0) for share in shares]
            bars = axes.barh(at, values, 0.32, color=COLOURS[colour], label=label)
            axes.bar_label(bars, fmt="%.0f", fontsize=7, padding=2, color=COLOURS["ink"])
        axes.set_yticks(range(len(shown)), [short(source.name) for source in shown])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
    words = "; ".join(f"{source.name}: {100 * (source.web_share or 0):.0f}%" for source in shown)
    return Chart("kept-by-source", title, f"{title}. Web texts: {words}", figure)


def compare_charts(figures: Mapping[str, float]) -> list[Chart]:
    """Recall@1 of the compared models, a chart a direction, bars by model within each head."""
    directions = {"i2t_r1": "Image to text, R@1 in %", "t2i_r1": "Text to image, R@1 in %"}
    there = [
        n for n in COMPARED if any(f"compare.{n}.{head}{m}" in figures for m in directions for head in HEADS)
    ]
    return [_bars(metric, title, figures, there) for metric, title in directions.items()] if there else []


def _pretraining_chart(runs: Mapping[str, Curve], loss: str) -> Chart:
    ends = []
    with styled(loss):
        figure, axes = axes_of("step")
        for stage, curve in runs.items():
            if _has(curve, loss):
                label, colour = PRETRAINING[stage]
                ends.append(f"{label} ends at {_line(axes, curve, loss, colour):.3f}")
        if loss == "itm":
            _prior(axes)
    title = f"{LOSSES[loss]} loss"
    return Chart(f"pretraining-{loss}", title, f"{title} of pre-training: {'; '.join(ends)}", figure)


def _run_chart(stage: str, curve: Curve, loss: str, colour: str) -> Chart:
    with styled(stage + loss):
        figure, axes = axes_of("step")
        last = _line(axes, curve, loss, colour)
        if loss == "itm":
            _prior(axes)
    title = f"{stage}, {LOSSES[loss]}"
    return Chart(f"loss-{stage.replace('@', '-')}-{loss}", title, f"{title} loss ends at {last:.3f}", figure)


def _histogram(
    score: str, title: str, series: Sequence[tuple[str, str, list[int]]], threshold: float | None
) -> Chart:
    cuts = [] if threshold is None else [bin_of(score, log_odds(threshold))]
    (low, high), groups = RANGES[score], _grouped([counts for _, _, counts in series], cuts)
    edges = [low + (high - low) * n / BINS for n in (*groups, groups.stop)]
    with styled(title):
        figure, axes = axes_of(SCORES[score], "% of the texts")
        for _, colour, every in series:
            counts = [sum(every[n : n + groups.step]) for n in groups]
            shares = [100 * count / max(1, sum(counts)) for count in counts]
            style = {"baseline": 0, "color": COLOURS[colour]}
            axes.stairs(shares, edges, fill=True, alpha=0.22, **style)
            axes.stairs(shares, edges, **style)
        if threshold is not None:
            _threshold(axes, threshold, left=log_odds(threshold) > (edges[0] + edges[-1]) / 2)
            _probabilities(axes, edges[0], edges[-1])
        else:
            axes.locator_params(axis="x", nbins=5)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, axes.get_ylim()[1] * (1 if threshold is None else ROOM))
    words = "; ".join(f"{label or 'captions'}: {sum(counts):,}" for label, _, counts in series)
    return Chart(f"texts-{score}-{series[0][1]}", title, f"Histogram of {title}: {words}", figure)


def _bars(metric: str, title: str, figures: Mapping[str, float], models: list[str]) -> Chart:
    width = 0.8 / len(models)
    words = []
    with styled(metric):
        figure, axes = axes_of("", width=WIDE)
        for place, name in enumerate(models):
            label, colour = COMPARED[name]
            heights = [100 * figures.get(f"compare.{name}.{head}{metric}", math.nan) for head in HEADS]
            at = [group + width * (place - (len(models) - 1) / 2) for group in range(len(HEADS))]
            bars = axes.bar(at, heights, width * 0.9, color=COLOURS[colour])
            axes.bar_label(bars, fmt="%.1f", fontsize=7.5, padding=2, color=COLOURS["ink"])
            words += [f"{label}, {head}: {h:.1f}%" for head, h in zip(HEADS.values(), heights, strict=True)]
        axes.set_xticks(range(len(HEADS)), list(HEADS.values()))
        axes.tick_params(axis="x", length=0)
        axes.set_ylim(0, 100)
    return Chart(f"compare-{metric}", title, f"{title}. {'; '.join(words)}", figure)


def _line(axes: Axes, curve: Curve, column: str, colour: str) -> float:
    """Draw a column against the steps; returns its last value."""
    steps, values = thin(curve["step"], curve[column])
    axes.plot(steps, values, color=COLOURS[colour])
    return values[-1]


def _prior(axes: Axes) -> None:
    axes.axhline(ITM_PRIOR, color=COLOURS["soft"], linewidth=0.8, linestyle=(0, (2, 3)))
    axes.annotate(
        "nothing learnt",
        (1, ITM_PRIOR),
        (0, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        color=COLOURS["soft"],
    )


def _probabilities(axes: Axes, low: float, high: float) -> None:
    """Label an axis of log-odds with probabilities."""
    places = [log_odds(tick) for tick in TICKS if low <= log_odds(tick) <= high]
    if len(places) < 2:
        places = [low + (high - low) * share for share in (0.1, 0.5, 0.9)]
    axes.set_xticks(places, [probability_text(probability(place)) for place in places])


def _threshold(axes: Axes, value: float, left: bool) -> None:
    """A line at a probability, with its label on the side that has room."""
    place = log_odds(value)
    axes.axvline(place, color=COLOURS["ink"], linewidth=0.8, linestyle=(0, (4, 3)))
    axes.annotate(
        f"kept from {probability_text(value)}",
        (place, 1),
        (-4 if left else 4, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        color=COLOURS["soft"],
    )


def thin(x: Sequence[float], y: Sequence[float], points: int = POINTS) -> tuple[list[float], list[float]]:
    """Average neighbours until no more than `points` are left; gaps (NaN) are skipped."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if not math.isnan(b)]
    size = max(1, math.ceil(len(pairs) / points))
    groups = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    return [g[-1][0] for g in groups], [sum(b for _, b in g) / len(g) for g in groups]


def _has(curve: Curve, column: str) -> bool:
    return any(not math.isnan(value) and value != 0 for value in curve.get(column, []))


def _grouped(histograms: Sequence[Sequence[int]], cuts: Sequence[int]) -> range:
    """The first bins of some `BARS` groups of neighbours that cover a threshold's and whatever bin is not empty."""
    filled = [n for n in range(BINS) if n in cuts or any(counts[n] for counts in histograms)]
    width = filled[-1] + 1 - filled[0]
    first, width = max(0, filled[0] - max(0, BARS - width) // 2), max(width, BARS)
    step = math.ceil(width / BARS)
    return range(first, first + step * math.ceil(width / step), step)
