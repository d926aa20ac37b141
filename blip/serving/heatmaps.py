"""The picture of `blip explain`: each word's heat map over the image."""

import math
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from blip.atomic import atomic_path

if TYPE_CHECKING:
    from PIL.Image import Image

    from blip.model.explain import Explanation

COLUMNS = 4
INCHES = 2.4  # width of one panel
TITLE = 0.3  # inches above a panel
LONG = 3  # times as long as the other side: of such a picture a panel takes the whole line, or is narrower
NARROWEST = 0.8  # inches, for the title
DPI = 130
WIDEST = round(INCHES * COLUMNS * DPI)  # pixels, of the largest panel


def draw(picture: "Image", explanation: "Explanation", target: Path) -> None:
    """Write the panels into a file."""
    drawn = panels(picture, explanation)
    with atomic_path(target) as temporary:
        temporary.write_bytes(drawn)


def panels(picture: "Image", explanation: "Explanation") -> bytes:
    """A PNG: the picture, then one panel a word; the maps share one scale, so cold words look cold."""
    from matplotlib.figure import Figure

    count = 1 + len(explanation.words)
    columns, width, height = panel(picture.width / picture.height, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, (height + TITLE) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid:
        axes.set_axis_off()
    extent, small = (0, picture.width, picture.height, 0), picture.copy()
    small.thumbnail((WIDEST, WIDEST))  # every panel keeps its own
    grid[0].imshow(small, extent=extent)
    grid[0].set_title(f"match {explanation.probability:.2f}", fontsize=9)
    for axes, word, heat in zip(grid[1:], explanation.words, explanation.maps, strict=False):
        axes.imshow(small, extent=extent)
        axes.imshow(heat, cmap="inferno", alpha=0.6, vmin=0, vmax=1, extent=extent)
        axes.set_title(word, fontsize=9, parse_math=False)  # $$ is no formula
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    return drawn.getvalue()


def panel(aspect: float, count: int) -> tuple[int, float, float]:
    """Panels a line, and the inches of one, for pictures so many times as wide as high."""
    columns, width = (1, INCHES * COLUMNS) if aspect > LONG else (min(count, COLUMNS), INCHES)
    height = min(width / aspect, INCHES * LONG)
    return columns, max(height * aspect, NARROWEST), height
