"""Captions for a batch of images, from pixels to token ids."""

from collections.abc import Callable
from typing import Any

import torch

from blip.bench.composed import opened
from blip.bench.inputs import TOKENS, random_images, random_network
from blip.bench.workload import Setup, computing
from blip.model.generation import Decoding, decoding_context, generate

PROMPT = (TOKENS.decode, 1037, 3861, 1997)  # "a picture of"
LONGEST, SHORTEST = 20, 5


def ours(setup: Setup) -> Callable[[], list[list[int]]]:
    """Our encoder and decoding."""
    network = random_network(setup.size, setup.image_size).to(setup.device).eval().requires_grad_(False)
    images = random_images(setup.batch, setup.image_size).to(setup.device)
    prompt = torch.tensor(PROMPT, device=setup.device).expand(setup.batch, -1)
    decoding = Decoding(LONGEST, SHORTEST, setup.beams)

    @torch.inference_mode()
    def write() -> list[list[int]]:
        with computing(setup):
            context = decoding_context(network, network.vision(images), decoding)
            return generate(network, context, prompt, TOKENS.sep, decoding)

    return write


def theirs(setup: Setup) -> Callable[[], Any]:
    """`BlipForConditionalGeneration.generate`."""
    network = random_network(setup.size, setup.image_size)
    model: Any = opened(network, "BlipForConditionalGeneration").to(setup.device).eval().requires_grad_(False)
    images = random_images(setup.batch, setup.image_size).to(setup.device)
    prompt = torch.tensor((*PROMPT, TOKENS.sep), device=setup.device).repeat(setup.batch, 1)

    @torch.inference_mode()
    def write() -> Any:
        with computing(setup):
            return model.generate(
                pixel_values=images, input_ids=prompt.clone(), attention_mask=torch.ones_like(prompt),
                max_length=LONGEST, min_length=SHORTEST, num_beams=setup.beams, do_sample=False,
            )  # fmt: skip

    return write
