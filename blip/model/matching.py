"""Matching scores of many pairs, for re-ranking: an image's keys and values serve all texts it meets.

    scores_M = match_pairs(network, tokens_NTD, image_index_M, ids, mask, text_index_M)

A pair by itself projects its image to keys and values in every layer, which is half of its work at 30 tokens. Here
that is done once an image, the texts of one image attend to them uncopied, and texts of like length go together.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from blip.model.blip import BlipNetwork
from blip.model.context import Context
from blip.model.text import TextConfig

CONTEXT_BYTES = 1 << 30  # keys and values of the images at hand
TOKENS_AT_ONCE = 8192  # of the texts at hand, with padding
LARGEST_GROUP = 64  # texts that share one copy of an image's keys and values


@dataclass(frozen=True)
class _Group:
    """`size` pairs of one image that follow each other in the order, the longest text last."""

    image: int
    start: int
    longest: int


@torch.inference_mode()
def match_pairs(
    network: BlipNetwork,
    tokens_NTD: Tensor,
    image_index_M: Tensor,
    ids: Tensor,
    mask: Tensor,
    text_index_M: Tensor,
    matched_logit: bool = False,
) -> Tensor:
    """ITM log-odds of being matched, float32 ``[M]``, for M pairs of an image and a text.

    Args:
        matched_logit: the logit of "matched" alone, as published re-ranking has it.
        tokens_NTD: image tokens; pair i is of image ``image_index_M[i]``. They may be in the host's memory, all of them
            being too many for a GPU: what is at hand is moved to where the texts are.
        ids, mask: texts starting with ``[ENC]``; pair i is of text ``text_index_M[i]``.
    """
    image_index, text_index = image_index_M.cpu(), text_index_M.cpu()
    lengths = mask.sum(1).cpu()
    order = _by_image_and_length(image_index, lengths[text_index])
    images, counts = image_index[order].unique_consecutive(return_counts=True)
    scores = torch.empty(len(image_index), device=ids.device)
    block = max(1, CONTEXT_BYTES // context_bytes(network.config.text, tokens_NTD))
    first = 0
    for own, own_counts in zip(images.split(block), counts.split(block), strict=True):
        tokens = tokens_NTD[own.to(tokens_NTD.device)].to(ids.device)
        context = network.text_encoder.project_context(tokens)
        last = first + int(own_counts.sum())
        pairs = order[first:last]
        for size, groups in _groups(own_counts.tolist(), lengths[text_index[pairs]].tolist()):
            rows = torch.tensor([group.image for group in groups])
            starts = torch.tensor([group.start for group in groups])
            chosen = pairs[(starts[:, None] + torch.arange(size)).flatten()]
            texts = text_index[chosen].to(ids.device)
            longest = max(group.longest for group in groups)
            shared = [layer.select(rows.to(ids.device)) for layer in context]
            score = _matched_logit if matched_logit else _log_odds
            scores[chosen.to(scores.device)] = score(
                network,
                ids[texts, :longest],
                mask[texts, :longest],
                shared,
                int(lengths[text_index[chosen]].sum()),
            )
        first = last
    return scores


def _log_odds(network: BlipNetwork, ids: Tensor, mask: Tensor, context: list[Context], tokens: int) -> Tensor:
    logits = network.match(ids, mask, context, tokens)
    return logits[:, 1] - logits[:, 0]


def _matched_logit(
    network: BlipNetwork, ids: Tensor, mask: Tensor, context: list[Context], tokens: int
) -> Tensor:
    return network.match(ids, mask, context, tokens)[:, 1].float()


def _by_image_and_length(image_index_M: Tensor, lengths_M: Tensor) -> Tensor:
    by_length = lengths_M.argsort(stable=True)
    return by_length[image_index_M[by_length].argsort(stable=True)]


def context_bytes(text: TextConfig, tokens_NTD: Tensor) -> int:
    """Keys and values of one image in every layer, were they float32."""
    return 2 * text.layers * tokens_NTD.shape[1] * text.width * 4


def _groups(counts: list[int], lengths: list[int]) -> Iterator[tuple[int, list[_Group]]]:
    """Groups of the same size, as many at a time as fit; sizes are powers of two, so that there are few of them.

    Args:
        counts: pairs of each image, in their order.
        lengths: tokens of each pair's text.
    """
    by_size: dict[int, list[_Group]] = {}
    start = 0
    for image, count in enumerate(counts):
        end = start + count
        while start < end:
            size = min(LARGEST_GROUP, 1 << ((end - start).bit_length() - 1))
            by_size.setdefault(size, []).append(_Group(image, start, lengths[start + size - 1]))
            start += size
    for size, groups in by_size.items():
        waiting: list[_Group] = []
        for group in sorted(groups, key=lambda group: group.longest):
            if waiting and (len(waiting) + 1) * size * group.longest > TOKENS_AT_ONCE:
                yield size, waiting
                waiting = []
            waiting.append(group)
        yield size, waiting
