"""What is measured, on what, in which type."""

from dataclasses import dataclass
from typing import Literal

import torch

from blip.bench.inputs import Size
from blip.model.blip import BlipNetwork
from blip.model.inference import keep_in, make_quick
from blip.model.precision import autocast


@dataclass(frozen=True)
class Setup:
    """One measurement: both sides are built from it and nothing else.

    Attributes:
        batch: images, each with one text, or with `texts` of them when re-ranking or filtering.
        dropout: of the text side while training.
        captions: of each image, to be sampled.
        free_lengths: sampled captions end where they end; otherwise all are as long as they may be.
        compiled: our blocks and layers are.
    """

    size: Size = "base"
    batch: int = 16
    image_size: int = 224
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"
    dropout: float = 0.1
    beams: int = 1
    texts: int = 64
    decoding: Literal["beam", "nucleus"] = "beam"
    captions: int = 1
    free_lengths: bool = False
    compiled: bool = False


def our_reader(network: BlipNetwork, setup: Setup) -> BlipNetwork:
    """A network of ours as `blip.load` opens it."""
    network = network.to(setup.device).eval().requires_grad_(False)
    keep_in(network, getattr(torch, setup.dtype))
    make_quick(network, setup.compiled)
    return network


def computing(setup: Setup) -> torch.autocast:
    """Autocast to the setup's type."""
    return autocast(setup.device, getattr(torch, setup.dtype))
