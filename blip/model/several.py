"""What a model is asked of is a list: a single picture has rows, and a text letters, that would be taken for many."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blip.errors import BadArguments


def several_images(images: Any) -> Any:
    """The images. Raises BadArguments for one that is in no list."""
    array = isinstance(images, np.ndarray) and images.dtype == np.uint8
    if isinstance(images, str | bytes | Path | Image.Image) or (
        array and (images.ndim == 2 or (images.ndim == 3 and images.shape[2] in (1, 3, 4)))
    ):
        raise BadArguments("images are a list, or a tensor [N, 3, S, S]; put the one picture into a list")
    return images


def several_texts(texts: Sequence[str], what: str = "texts") -> Sequence[str]:
    """The texts. Raises BadArguments for one that is in no list."""
    if isinstance(texts, str):
        raise BadArguments(f"{what} are a list; put the one, {texts!r}, into a list")
    return texts
