"""SVG text to a square RGB picture on white, by resvg (no fonts, no network, the same pixels everywhere).

from rasterise import rasterise
image = rasterise(svg, 96)      # uint8 [96, 96, 3]
"""

import io
import re

import numpy as np
import resvg_py
from PIL import Image

WHITE = (255, 255, 255)


def rasterise(svg: str, size: int) -> np.ndarray:
    """Render an SVG, fitted into and centred in a white square.

    Returns uint8 [size, size, 3]. Raises ValueError for SVG that resvg refuses.
    """
    fit = {"height": size} if _is_tall(svg) else {"width": size}
    data = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True, **fit)
    with Image.open(io.BytesIO(bytes(data))) as picture:
        drawing = picture.convert("RGBA")
    if max(drawing.size) > size:
        drawing.thumbnail((size, size), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (size, size), (*WHITE, 255))
    offset = ((size - drawing.width) // 2, (size - drawing.height) // 2)
    canvas.alpha_composite(drawing, offset)
    return np.asarray(canvas.convert("RGB"))


def _is_tall(svg: str) -> bool:
    """Whether the view box is higher than wide."""
    found = re.search(r'viewBox="([^"]+)"', svg)
    if not found:
        return False
    width, height = (float(value) for value in re.split(r"[\s,]+", found.group(1).strip())[2:4])
    return height > width
