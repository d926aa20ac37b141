"""Matching scores of every image with many texts, the images encoded before."""

from collections.abc import Callable

import torch
from torch import Tensor

from blip.bench.composed import PADDED, their_reader
from blip.bench.inputs import TOKENS, Texts, random_images, random_network, random_texts
from blip.bench.workload import Setup, computing, our_reader
from blip.model.blip import BlipNetwork
from blip.model.matching import match_pairs


def ours(setup: Setup) -> Callable[[], Tensor]:
    """An image's keys and values serve all of its texts."""
    network = our_reader(random_network(setup.size, setup.image_size), setup)
    tokens, texts = _inputs(setup, network)
    image = torch.arange(setup.batch).repeat_interleave(setup.texts)
    text = torch.arange(len(texts.ids))

    @torch.inference_mode()
    def score() -> Tensor:
        with computing(setup):
            return match_pairs(network, tokens, image, texts.ids, texts.mask, text)

    return score


def theirs(setup: Setup) -> Callable[[], Tensor]:
    """Pair by pair as published: an image is repeated for each of its texts, padded to 30 tokens."""
    network = random_network(setup.size, setup.image_size).to(setup.device)
    tokens, texts = _inputs(setup, network)
    texts = texts.padded(PADDED)
    tokens = tokens.to(getattr(torch, setup.dtype))
    model = their_reader(network, "BlipForImageTextRetrieval", setup)

    @torch.inference_mode()
    def score() -> Tensor:
        parts = []
        for row in range(setup.batch):
            chosen = slice(row * setup.texts, (row + 1) * setup.texts)
            repeated = tokens[row : row + 1].expand(setup.texts, -1, -1)
            states = model.text_encoder(
                texts.ids[chosen],
                attention_mask=texts.mask[chosen],
                encoder_hidden_states=repeated,
                encoder_attention_mask=torch.ones(repeated.shape[:2], dtype=torch.long, device=setup.device),
            ).last_hidden_state
            logits = model.itm_head(states[:, 0]).float()
            parts.append(logits[:, 1] - logits[:, 0])
        return torch.cat(parts)

    return score


@torch.inference_mode()
def _inputs(setup: Setup, network: BlipNetwork) -> tuple[Tensor, Texts]:
    """Image tokens ``[N, T, D]``, and other texts for each image, starting with ``[ENC]``."""
    network.eval()
    images = random_images(setup.batch, setup.image_size).to(setup.device)
    with computing(setup):
        tokens = torch.cat([network.vision(part) for part in images.split(16)])
    texts = random_texts(setup.batch * setup.texts)
    texts.ids[:, 0] = TOKENS.encode
    return tokens, Texts(texts.ids.to(setup.device), texts.mask.to(setup.device))
