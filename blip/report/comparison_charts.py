"""The charts of a comparison: every model's recall with its interval, and how far each is from the first.

charts(found, "share")               # of the page, one a measure
picture(found).savefig(...)          # all of them, comparison.png
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from blip.report.chart import COLOURS, WIDE, Chart, short, styled
from blip.report.comparison import HEADS, Comparison, title_of
from blip.tasks.resampling import gain_interval

What = Literal["share", "gain"]
FIRST_PLACES = ("i2t_r1", "t2i_r1", "top1")  # what is drawn of the measures
MODELS = ("human", "synthetic", "web")  # colours, the first model's first
FAINT = 0.5  # of the bars of embeddings, beside re-ranked ones
ROW, AROUND, WIDTH = 0.34, 0.7, 4.4  # inches of a bar, of what is above and below them, and of a chart


class Mark(NamedTuple):
    """A bar or a point with its interval, in per cent."""

    label: str
    colour: str
    strength: float
    value: float
    low: float
    high: float


def charts(found: Comparison, what: What) -> list[Chart]:
    """For every measure the models side by side (``share``), or how far they are from the first (``gain``)."""
    marks_of, draw, title = PARTS[what]
    made = []
    for measure in _drawn(found):
        marks, name = list(marks_of(found, measure)), title.format(title_of(measure))
        with styled(f"{what}-{measure}"):
            figure = Figure(figsize=(WIDTH, _height(marks)), layout="constrained")
            draw(figure.subplots(), marks)
        words = "; ".join(f"{m.label} {m.value:.1f} ({m.low:.1f} to {m.high:.1f})" for m in marks)
        made.append(Chart(f"{what}-{measure}", name[0].upper() + name[1:], f"{name}: {words}", figure))
    return made


def picture(found: Comparison) -> Figure:
    """All charts in one figure, the shares above the differences."""
    measures = _drawn(found)
    rows = [[list(marks_of(found, measure)) for measure in measures] for marks_of, *_ in PARTS.values()]
    heights = [max(map(_height, row)) for row in rows]
    with styled("comparison"):
        figure = Figure(figsize=(WIDE * len(measures), sum(heights) + 0.4), layout="constrained")
        grid = figure.subplots(len(rows), len(measures), squeeze=False, height_ratios=heights)
        for row, axes_of_row, (_, draw, title) in zip(rows, grid, PARTS.values(), strict=True):
            for marks, axes, measure in zip(row, axes_of_row, measures, strict=True):
                draw(axes, marks)
                axes.set_ylim(max(map(len, row)) - 0.4, -0.7)
                name = title.format(title_of(measure))
                axes.set_title(name[0].upper() + name[1:], loc="left", fontsize=9.5)
    return figure


def _drawn(found: Comparison) -> list[str]:
    return [measure for measure in FIRST_PLACES if measure in found.measures]


def _height(marks: list[Mark]) -> float:
    return AROUND + ROW * sum(1 + mark.label.count("\n") / 2 for mark in marks)


def _shares(found: Comparison, measure: str) -> Iterator[Mark]:
    """A bar for every head of every model, with the 95% interval over the pictures."""
    for place, (name, side) in enumerate(found.sides.items()):
        for head in side.found.heads:
            hits = side.found.hits(head).get(measure)
            if hits is not None:
                group_Q = found.asked.caption_image.numpy() if measure.startswith("t2i") else None
                low, high = gain_interval(np.zeros(len(hits)), hits.numpy(), group_N=group_Q)
                strength = FAINT if head == "itc" and "itm" in side.found.heads else 1.0
                value = 100 * float(hits.double().mean())
                yield Mark(
                    f"{short(name)}, {HEADS[head]}", _colour(place), strength, value, 100 * low, 100 * high
                )


def _gains(found: Comparison, measure: str) -> Iterator[Mark]:
    """A point for every head beside one of the first model's."""
    places = {name: place for place, name in enumerate(found.sides)}
    for one in found.compared:
        label = f"{short(one.other)}, {HEADS[one.other_head]}"
        label += f"\nless {short(found.first)}, {HEADS[one.first_head]}"
        for this in one.differences:
            if this.measure == measure:
                edges = (100 * value for value in (this.gain, this.low, this.high))
                yield Mark(label, _colour(places[one.other]), 1.0, *edges)


def _colour(place: int) -> str:
    return COLOURS[MODELS[place % len(MODELS)]]


def _draw_shares(axes: Axes, marks: list[Mark]) -> None:
    for row, mark in enumerate(marks):
        axes.barh(row, mark.value, 0.62, color=mark.colour, alpha=mark.strength)
        axes.plot([mark.low, mark.high], [row, row], color=COLOURS["ink"], linewidth=1)
        axes.text(mark.high + 1.5, row, f"{mark.value:.1f}", va="center", color=COLOURS["ink"])
    _rows(axes, marks)
    axes.set_xlim(0, 110)
    axes.set_xticks(range(0, 101, 25))


def _draw_gains(axes: Axes, marks: list[Mark]) -> None:
    axes.axvline(0, color=COLOURS["soft"], linewidth=0.8)
    for row, mark in enumerate(marks):
        axes.plot([mark.low, mark.high], [row, row], color=mark.colour)
        axes.plot(mark.value, row, "o", markersize=5, color=mark.colour)
        axes.annotate(
            f"{mark.value:+.1f}",
            (mark.value, row),
            (0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=COLOURS["ink"],
        )
    _rows(axes, marks)
    edges = [0.0, *(edge for mark in marks for edge in (mark.low, mark.high))]
    margin = 0.15 * max(1.0, max(edges) - min(edges))
    axes.set_xlim(min(edges) - margin, max(edges) + margin)


def _rows(axes: Axes, marks: list[Mark]) -> None:
    axes.set_yticks(range(len(marks)), [mark.label for mark in marks])
    axes.set_ylim(len(marks) - 0.4, -0.7)
    axes.tick_params(axis="y", labelcolor=COLOURS["ink"])
    axes.grid(axis="x")
    axes.set_axisbelow(True)


Part = tuple[Callable[[Comparison, str], Iterator[Mark]], Callable[[Axes, list[Mark]], None], str]
PARTS: dict[What, Part] = {
    "share": (_shares, _draw_shares, "{}, %"),
    "gain": (_gains, _draw_gains, "{}, difference in points"),
}
