"""What a chart is and how it looks: drawn by matplotlib in the light theme's colours, an SVG of the page's in it.

    with styled("losses"):
        figure, axes = axes_of("step")
    Chart("losses", "ITC loss", "ITC loss ends at 2.1", figure).svg

A chart is small (a third of the page's width), so that its text stays readable when a phone stacks them.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Name of the CSS variable to its value in the light theme of templates/style.css; a test compares the two.
COLOURS = {
    "ink": "#172026",
    "soft": "#55626b",
    "line": "#d5dcdf",
    "human": "#2b62c9",
    "web": "#a8630a",
    "synthetic": "#0c7c6e",
    "good": "#1b7a43",
    "bad": "#b9322a",
}
NARROW, WIDE, TALL = 3.5, 5.2, 2.15  # inches


@dataclass(frozen=True)
class Chart:
    """A chart with its title and what it says to a reader who does not see it."""

    name: str
    title: str
    text: str
    figure: Figure

    @cached_property
    def svg(self) -> str:
        """An SVG element whose colours are the page's CSS variables."""
        buffer = io.StringIO()
        with styled(self.name):
            self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        return _for_page(buffer.getvalue())


def short(name: str) -> str:
    """A name that leaves room for the bars."""
    return name if len(name) <= 28 else f"{name[:27]}…"


def axes_of(x: str, y: str = "", width: float = NARROW, height: float = TALL) -> tuple[Figure, Axes]:
    """A figure with axes of its own, with lines across."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    return figure, axes


@contextmanager
def styled(salt: str) -> Iterator[None]:
    """Thin lines, no box, text as text; `salt` keeps the ids of one chart apart from those of another."""
    ink, soft, line = COLOURS["ink"], COLOURS["soft"], COLOURS["line"]
    settings: Any = {  # names that matplotlib's stubs list one by one
        "svg.fonttype": "none",
        "text.parse_math": False,  # a name may have dollars in it
        "svg.hashsalt": salt,
        "font.size": 8.5,
        "text.color": ink,
        "axes.edgecolor": line,
        "axes.labelcolor": soft,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "xtick.color": line,
        "ytick.color": line,
        "xtick.labelcolor": soft,
        "ytick.labelcolor": soft,
        "ytick.major.size": 0,
        "grid.color": line,
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.6,
        "lines.solid_capstyle": "round",
    }
    with matplotlib.rc_context(settings):
        yield


def _for_page(svg: str) -> str:
    """Drop what a file needs and a page does not: prologue, fixed size, fonts, ids that nothing refers to."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"<svg ", '<svg aria-hidden="true" ', svg, count=1)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[a-z0-9.]+_\d+"', "", svg)
    svg = re.sub(r"font-family: [^;\"]+(; )?", "", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", svg)
    for name, value in COLOURS.items():
        svg = svg.replace(value, f"var(--{name})")
    return svg
