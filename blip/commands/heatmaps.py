"""The picture of `blip explain`: each word's heat map over the image."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from blip.atomic import atomic_path

if TYPE_CHECKING:
    from PIL.Image import Image

    from blip.model.explain import Explanation

COLUMNS = 4
INCHES = 2.4  # of one panel


def draw(picture: "Image", explanation: "Explanation", target: Path) -> None:
    """Write a PNG: the picture, then one panel a word; the maps share one scale, so cold words look cold."""
    from matplotlib.figure import Figure

    panels = 1 + len(explanation.words)
    columns = min(panels, COLUMNS)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(INCHES * columns, INCHES * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid:
        axes.set_axis_off()
    grid[0].imshow(picture)
    grid[0].set_title(f"match {explanation.probability:.2f}", fontsize=9)
    extent = (0, picture.width, picture.height, 0)
    for axes, word, heat in zip(grid[1:], explanation.words, explanation.maps, strict=False):
        axes.imshow(picture)
        axes.imshow(heat, cmap="inferno", alpha=0.6, vmin=0, vmax=1, extent=extent)
        axes.set_title(word, fontsize=9)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
