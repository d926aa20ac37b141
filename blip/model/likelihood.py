"""How likely the decoder finds given texts: captions that it would not write itself score low, answers are ranked.

scores_M = mean_log_likelihood(network, tokens_NTD, image_index_M, ids_MT, mask_MT)
winners_Q = most_likely(network, context, candidates_AT, mask_AT, keep=128)     # BLIP paper, section 5.3
"""

import torch
from torch import Tensor

from blip.model.blip import BlipNetwork
from blip.model.context import Cache, Context
from blip.model.matching import CONTEXT_BYTES, context_bytes

LOGITS_AT_ONCE = 1 << 27  # bounds the memory: 512 MB in float32


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
        found[counts] = _log_likelihood(network, states[counts], ids[:, 1:][counts])
        scores_M[rows] = found.sum(1) / counts.sum(1).clamp_min(1)
    return scores_M


@torch.inference_mode()
def most_likely(
    network: BlipNetwork, context: list[Context], candidates_AT: Tensor, mask_AT: Tensor, keep: int
) -> Tensor:
    """The likeliest candidate for each of Q rows of `context`, int64 ``[Q]``.

    The `keep` candidates with the likeliest first token are compared by the log-likelihood of all tokens.
    What all candidates share, the start token, is decoded once a row.

    Args:
        candidates_AT: token ids, each from ``[DEC]`` to ``[SEP]``, padded at the end.
        mask_AT: 1 at tokens, 0 at padding.
    """
    rows, text = len(context[0].keys), network.config.text
    shape = (rows, text.heads, candidates_AT.shape[1] - 1, text.width // text.heads)
    cache = Cache(text.layers, shape, context[0].keys)
    start_Q1 = candidates_AT[:1, :1].expand(rows, 1)
    states = network.text_decoder(start_Q1, None, context, causal=True, cache=cache)
    first_QV = network.lm_head(states[:, 0], network.word_embedding).float().log_softmax(dim=-1)
    scores_QK, top_QK = first_QV[:, candidates_AT[:, 1]].topk(min(keep, len(candidates_AT)), dim=1)
    kept = top_QK.flatten()
    cache.select(torch.arange(rows, device=kept.device).repeat_interleave(top_QK.shape[1]))
    states = network.text_decoder(candidates_AT[kept, 1:-1], None, context, causal=True, cache=cache)
    targets, present = candidates_AT[kept, 2:], mask_AT[kept, 2:].bool()
    rest = torch.zeros(targets.shape, device=targets.device)
    rest[present] = _log_likelihood(network, states[present], targets[present])
    scores_QK = scores_QK + rest.sum(1).view_as(scores_QK)
    return top_QK.gather(1, scores_QK.argmax(dim=1, keepdim=True)).squeeze(1)


def _log_likelihood(network: BlipNetwork, states_MD: Tensor, targets_M: Tensor) -> Tensor:
    """Log-probability of each target after its state, float32 ``[M]``."""
    block = max(1, LOGITS_AT_ONCE // network.config.text.vocabulary)
    parts = []
    for states, targets in zip(states_MD.split(block), targets_M.split(block), strict=True):
        logits = network.lm_head(states, network.word_embedding).float()
        parts.append(logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(dim=-1))
    return torch.cat(parts)
