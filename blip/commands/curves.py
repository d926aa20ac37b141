"""The picture of `blip calibrate`: what a filter keeps, and how much of it is right, over the threshold."""

from pathlib import Path

from blip.atomic import atomic_path
from blip.capfilt.calibration import Measured

POINTS = 201


def draw(measured: Measured, noise: float, target: Path) -> None:
    """Write a PNG: precision, recall and kept share over the threshold, and the scores they come from."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    curves, scores = figure.subplots(1, 2)
    points = measured.curve(noise, POINTS)
    thresholds = [point.threshold for point in points]
    for name, colour in (("precision", "#1b7a43"), ("recall", "#2b62c9"), ("kept", "#a8630a")):
        curves.plot(thresholds, [getattr(point, name) for point in points], label=name, color=colour)
    curves.set(
        xlabel="threshold", ylim=(0, 1.02), xlim=(0, 1), title=f"{noise:.0%} of the texts assumed wrong"
    )
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
