"""How likely the decoder finds given texts of given images: captions that it would not write itself score low.

scores_M = mean_log_likelihood(network, tokens_NTD, image_index_M, ids_MT, mask_MT)
"""

import torch
from torch import Tensor

from blip.model.blip import BlipNetwork
from blip.model.matching import CONTEXT_BYTES, context_bytes
from blip.model.ranking import log_likelihood


@torch.inference_mode()
def mean_log_likelihood(
    network: BlipNetwork,
    tokens_NTD: Tensor,
    image_index_M: Tensor,
    ids_MT: Tensor,
    mask_MT: Tensor,
    prompt: int = 1,
) -> Tensor:
    """The mean log-probability of a text's tokens and its end, float32 ``[M]``.

    An image's keys and values are projected once for those of its texts that are at hand together.

    Args:
        tokens_NTD: image tokens; text i is of image ``image_index_M[i]``.
        ids_MT, mask_MT: texts from ``[DEC]`` to ``[SEP]``.
        prompt: leading tokens of every text that are given and do not count.
    """
    scores_M = torch.empty(len(ids_MT), device=tokens_NTD.device)
    image_index_M = image_index_M.to(tokens_NTD.device)
    at_once = max(1, CONTEXT_BYTES // context_bytes(network.config.text, tokens_NTD))
    for rows in image_index_M.argsort(stable=True).split(at_once):
        images, place = image_index_M[rows].unique_consecutive(return_inverse=True)
        context = [layer.select(place) for layer in network.text_decoder.project_context(tokens_NTD[images])]
        ids, mask = ids_MT[rows], mask_MT[rows]
        states = network.text_decoder(ids[:, :-1], mask[:, :-1], context, causal=True)
        counts = mask[:, 1:].bool()
        counts[:, : prompt - 1] = False
        found = torch.zeros(counts.shape, device=tokens_NTD.device)
        found[counts] = log_likelihood(network, states[counts], ids[:, 1:][counts])
        scores_M[rows] = found.sum(1) / counts.sum(1).clamp_min(1)
    return scores_M
