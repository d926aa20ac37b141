"""Captions for a batch of images, from pixels to token ids: greedy, by beams, or sampled.

    blip bench caption --decoding nucleus --captions 4        # four captions of an image, which is encoded once

Sampled captions of two programs have different lengths, and the longer ones take longer. So both write up to the
longest there is, which makes them the same work; with free lengths captions have six tokens in the mean, not the same
on both sides, and what was written in a second is the fairer figure. Random weights would spread their choice over the
whole vocabulary: for sampling the last norm is scaled until the nucleus has about a hundred tokens.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from blip.bench.composed import their_reader
from blip.bench.inputs import TOKENS, random_images, random_network
from blip.bench.workload import Setup, computing, our_reader
from blip.model.blip import BlipNetwork
from blip.model.generation import Decoding, decoding_context, generate

PROMPT = (TOKENS.decode, 1037, 3861, 1997)  # "a picture of"
LONGEST, SHORTEST = 20, 5
TOP_P = 0.9
SPREAD = 4.0  # standard deviation of the logits to sample from
USUAL = 8  # where lengths are free, about one token of so many is an end


def ours(setup: Setup) -> Callable[[], list[list[int]]]:
    """Our encoder and decoding."""
    network = our_reader(_network(setup), setup)
    images = random_images(setup.batch, setup.image_size).to(setup.device)
    prompt = torch.tensor(PROMPT, device=setup.device).expand(setup.batch * setup.captions, -1)
    sampled = setup.decoding == "nucleus"
    decoding = Decoding(LONGEST, _shortest(setup), setup.beams, TOP_P if sampled else None)

    @torch.inference_mode()
    def write() -> list[list[int]]:
        draws = torch.rand(len(prompt), LONGEST, device=setup.device) if sampled else None
        with computing(setup):
            context = decoding_context(network, network.vision(images), decoding, copies=setup.captions)
            return generate(network, context, prompt, TOKENS.sep, decoding, draws)

    return write


def theirs(setup: Setup) -> Callable[[], Any]:
    """`BlipForConditionalGeneration.generate`."""
    model = their_reader(_network(setup), "BlipForConditionalGeneration", setup)
    images = random_images(setup.batch, setup.image_size).to(setup.device)
    prompt = torch.tensor((*PROMPT, TOKENS.sep), device=setup.device).repeat(setup.batch, 1)
    how: dict[str, Any] = {"do_sample": False, "num_beams": setup.beams}
    if setup.decoding == "nucleus":
        how = {"do_sample": True, "top_p": TOP_P, "top_k": 0, "num_return_sequences": setup.captions}

    @torch.inference_mode()
    def write() -> Any:
        return model.generate(
            pixel_values=images, input_ids=prompt.clone(), attention_mask=torch.ones_like(prompt),
            max_length=LONGEST, min_length=_shortest(setup), **how,
        )  # fmt: skip

    return write


def tokens_in(written: list[list[int]] | Tensor) -> int:
    """Tokens of the captions of either side, without the prompt and the end."""
    if isinstance(written, Tensor):
        written = [_until_end(ids[len(PROMPT) :]) for ids in written.tolist()]
    return sum(map(len, written))


def _until_end(ids: Sequence[int]) -> list[int]:
    return list(ids[: ids.index(TOKENS.sep)] if TOKENS.sep in ids else ids)


def _shortest(setup: Setup) -> int:
    fixed = setup.decoding == "nucleus" and not setup.free_lengths
    return LONGEST if fixed else SHORTEST


@torch.no_grad()
def _network(setup: Setup) -> BlipNetwork:
    """Random weights; to sample from, with a choice and an end as a trained captioner has them."""
    network = random_network(setup.size, setup.image_size)
    if setup.decoding == "nucleus":
        words, head = network.word_embedding, network.lm_head
        words[TOKENS.sep] = 0
        head.norm.weight.fill_(SPREAD / (words.std().item() * math.sqrt(words.shape[1])))
        head.bias[TOKENS.sep] = math.log(len(words) / USUAL) + SPREAD**2 / 2
    return network
