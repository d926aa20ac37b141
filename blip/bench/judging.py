"""What the filter of CapFilt does: images with several texts each, from pixels to matching scores.

    blip bench filter --texts 4

Ours encodes an image once and projects it once for all of its texts. The other side gives every pair to
`BlipForImageTextRetrieval`, as one does for pairs that one has, so that an image is encoded for each of its texts. Both
have batches of as many pairs as there are images, and no more padding than the longest text of all needs.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from blip.bench.composed import their_reader
from blip.bench.inputs import TOKENS, Texts, random_images, random_network, random_texts
from blip.bench.workload import Setup, computing, our_reader
from blip.model.matching import match_pairs


def ours(setup: Setup) -> Callable[[], Tensor]:
    """Log-odds ``[batch * texts]``; an image is encoded once."""
    network = our_reader(random_network(setup.size, setup.image_size), setup)
    images, texts = random_images(setup.batch, setup.image_size).to(setup.device), _texts(setup)
    image, text = torch.arange(setup.batch).repeat_interleave(setup.texts), torch.arange(len(texts.ids))

    @torch.inference_mode()
    def score() -> Tensor:
        with computing(setup):
            return match_pairs(network, network.vision(images), image, texts.ids, texts.mask, text)

    return score


def theirs(setup: Setup) -> Callable[[], Tensor]:
    """The same, pair by pair."""
    model = their_reader(random_network(setup.size, setup.image_size), "BlipForImageTextRetrieval", setup)
    images, texts = random_images(setup.batch, setup.image_size).to(setup.device), _texts(setup)
    image = torch.arange(setup.batch, device=setup.device).repeat_interleave(setup.texts)

    @torch.inference_mode()
    def score() -> Tensor:
        parts = []
        for rows in torch.arange(len(image), device=setup.device).split(setup.batch):
            logits = model(texts.ids[rows], images[image[rows]], attention_mask=texts.mask[rows]).itm_score
            parts.append(logits[:, 1].float() - logits[:, 0].float())
        return torch.cat(parts)

    return score


def _texts(setup: Setup) -> Texts:
    texts = random_texts(setup.batch * setup.texts)
    texts.ids[:, 0] = TOKENS.encode
    return Texts(texts.ids.to(setup.device), texts.mask.to(setup.device))
