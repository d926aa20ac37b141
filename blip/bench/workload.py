"""What is measured, on what, in which type."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from blip.bench.inputs import Size


@dataclass(frozen=True)
class Setup:
    """One measurement: both sides are built from it and nothing else.

    Attributes:
        batch: images, each with one text, or with `texts` of them when re-ranking.
        dropout: of the text side while training.
    """

    size: Size = "base"
    batch: int = 16
    image_size: int = 224
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"
    dropout: float = 0.1
    beams: int = 1
    texts: int = 64


@contextmanager
def computing(setup: Setup) -> Iterator[None]:
    """Autocast to the setup's type; weights stay float32."""
    lower = setup.dtype != "float32"
    dtype = getattr(torch, setup.dtype) if lower else torch.bfloat16
    with torch.autocast(torch.device(setup.device).type, dtype=dtype, enabled=lower):
        yield
