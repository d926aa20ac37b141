"""What `blip calibrate` shows: what a filter keeps, and how much of it is right, over the threshold."""

from pathlib import Path
from typing import Any

import numpy as np

from blip.atomic import atomic_path
from blip.capfilt.calibration import Measured
from blip.commands.output import columns

SHARPEST, POINTS = 7.0, 141  # log-odds of the last threshold, and how many are drawn
TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)


def table(measured: Measured, noise: float) -> tuple[list[dict[str, Any]], list[str]]:
    """The points of the curve, each precision with its 95% interval: for programs, and as a table for people."""
    points: list[dict[str, Any]] = []
    rows = [("threshold", "precision (95%)", "recall", "kept")]
    for point in measured.curve(noise):
        low, high = measured.interval(point.threshold, noise)
        known: dict[str, Any] = {"precision": None, "interval": None}
        right = "-"
        if point.kept:
            known = {"precision": point.precision, "interval": (low, high)}
            right = f"{point.precision:.3f} ({low:.3f}-{high:.3f})"
        points.append(point._asdict() | known)
        rows.append((f"{point.threshold:g}", right, f"{point.recall:.3f}", f"{point.kept:.3f}"))
    return points, columns(rows)


def draw(measured: Measured, noise: float, target: Path) -> None:
    """Write a PNG: precision, recall and kept share over the threshold, and the scores they come from."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    curves, scores = figure.subplots(1, 2)
    thresholds = (1 / (1 + np.exp(-np.linspace(-SHARPEST, SHARPEST, POINTS)))).tolist()
    points = measured.curve(noise, thresholds)
    for name, colour in (("precision", "#1b7a43"), ("recall", "#2b62c9"), ("kept", "#a8630a")):
        curves.plot(thresholds, [getattr(point, name) for point in points], label=name, color=colour)
    curves.set(xlabel="threshold", ylim=(0, 1.02), title=f"{noise:.0%} of the texts assumed wrong")
    curves.set_xscale("logit")
    curves.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS], minor=False)
    curves.minorticks_off()
    curves.legend(frameon=False)
    style = {"bins": 40, "range": (0, 1), "alpha": 0.6}
    scores.hist(measured.matched, **style, label="matching text", color="#1b7a43")
    scores.hist(measured.mismatched, **style, label="another image's text", color="#b9322a")
    scores.set(
        xlabel="probability of matching", ylabel="pairs", title="scores of held-out pairs", yscale="log"
    )
    scores.legend(frameon=False)
    for axes in (curves, scores):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
