"""Decoding: greedy, nucleus and beam search with static caches.

Lengths count every token of a sequence, ``[DEC]`` and the prompt included, as `transformers` counts them. The
prompt goes through in one pass, an image's keys and values are shared by its beams, and finished captions leave
the batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from blip.model.blip import BlipNetwork
from blip.model.text import Cache, Context


@dataclass(frozen=True)
class Decoding:
    """How to decode: at most `max_length` tokens, no end before `min_length`."""

    max_length: int = 20
    min_length: int = 5
    beams: int = 1
    top_p: float | None = None
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0


@torch.inference_mode()
def generate(
    network: BlipNetwork,
    context: list[Context],
    prompt_BT: Tensor,
    end: int,
    decoding: Decoding,
    uniforms_BL: Tensor | None = None,
) -> list[list[int]]:
    """Write a text for every row of `context`.

    Args:
        context: what the decoder's cross-attention reads, B rows.
        prompt_BT: the tokens to start from, ``[DEC]`` first, without padding.
        end: id of the token that ends a text.
        uniforms_BL: for nucleus sampling, one uniform number per row and position, so that what is drawn for a row
            depends on its own numbers alone and not on the batch around it.

    Returns:
        token ids of each text without the prompt and the end token.
    """
    if decoding.beams > 1:
        return _beam_search(network, context, prompt_BT, end, decoding)
    return _one_by_one(network, context, prompt_BT, end, decoding, uniforms_BL)


def _one_by_one(
    network: BlipNetwork,
    context: list[Context],
    prompt_BT: Tensor,
    end: int,
    decoding: Decoding,
    uniforms_BL: Tensor | None,
) -> list[list[int]]:
    rows = torch.arange(len(prompt_BT), device=prompt_BT.device)
    sequences = prompt_BT
    done: dict[int, list[int]] = {}
    cache = _new_cache(network, len(prompt_BT), decoding.max_length, context)
    new = prompt_BT
    prompt = prompt_BT.shape[1]
    while sequences.shape[1] < decoding.max_length and len(rows):
        logits = _next_logits(network, new, context, cache)
        logits = _constrain(logits, sequences, end, decoding)
        if decoding.top_p is None:
            chosen = logits.argmax(dim=-1)
        else:
            if uniforms_BL is None:
                raise ValueError("nucleus sampling needs uniforms_BL")
            chosen = nucleus(logits, decoding.top_p, uniforms_BL[rows, sequences.shape[1]])
        sequences = torch.cat((sequences, chosen[:, None]), dim=1)
        new = chosen[:, None]
        ended = chosen == end
        if ended.any():
            for row, tokens in zip(rows[ended].tolist(), sequences[ended].tolist(), strict=True):
                done[row] = tokens[prompt:-1]
            keep = (~ended).nonzero().squeeze(1)
            rows, sequences, new = rows[keep], sequences[keep], new[keep]
            context = [layer.select(keep) for layer in context]
            cache.select(keep)
    for row, tokens in zip(rows.tolist(), sequences.tolist(), strict=True):
        done[row] = tokens[prompt:]
    return [done[row] for row in range(len(prompt_BT))]


def nucleus(logits_BV: Tensor, top_p: float, uniform_B: Tensor) -> Tensor:
    """Sample from the smallest set of tokens whose probability reaches `top_p` (Holtzman et al., 2020).

    The draw inverts the cumulative distribution at ``uniform_B`` in [0, 1).
    """
    probability, token = logits_BV.float().softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    cumulative = probability.cumsum(dim=-1)
    kept = probability.masked_fill(cumulative - probability >= top_p, 0)
    reach = kept.cumsum(dim=-1)
    place = torch.searchsorted(reach, uniform_B[:, None].float() * reach[:, -1:], right=True)
    return token.gather(1, place.clamp_max(token.shape[1] - 1)).squeeze(1)


def _beam_search(
    network: BlipNetwork, context: list[Context], prompt_BT: Tensor, end: int, decoding: Decoding
) -> list[list[int]]:
    batch, prompt = prompt_BT.shape
    beams, device = decoding.beams, prompt_BT.device
    live = _Live(prompt_BT.repeat_interleave(beams, dim=0), torch.full((batch, beams), -1e9, device=device))
    live.scores[:, 0] = 0
    finished = _Finished.empty(batch, beams, decoding.max_length, device)
    cache = _new_cache(network, batch * beams, decoding.max_length, context)
    new = live.sequences
    open_B1 = torch.ones(batch, 1, dtype=torch.bool, device=device)
    while True:
        logits = _next_logits(network, new, context, cache)
        logits = _constrain(logits.log_softmax(dim=-1), live.sequences, end, decoding)
        scores = (live.scores.flatten()[:, None] + logits).view(batch, -1)
        best, flat = scores.topk(2 * beams, dim=1)
        parent, token = flat // logits.shape[-1], flat % logits.shape[-1]
        length = live.sequences.shape[1] + 1
        at_end = token == end
        normal = best / (length - prompt) ** decoding.length_penalty
        within = torch.arange(2 * beams, device=device) < beams
        rows = parent + torch.arange(batch, device=device)[:, None] * beams
        candidates = torch.cat((live.sequences[rows], token[..., None]), dim=2)
        finished.add(candidates, normal.masked_fill(~(at_end & within & open_B1), -1e9))
        live.scores, order = best.masked_fill(at_end, -1e9).topk(beams, dim=1)
        live.sequences = candidates.gather(1, order[..., None].expand(-1, -1, length)).flatten(0, 1)
        open_B1 &= ~finished.settled(live.scores, length - prompt, decoding)
        if length >= decoding.max_length or not open_B1.any():
            break
        cache.select(rows.gather(1, order).flatten())
        new = live.sequences[:, -1:]
    if length >= decoding.max_length:
        running = live.scores / (length - prompt) ** decoding.length_penalty
        finished.add(live.sequences.view(batch, beams, length), running.masked_fill(~open_B1, -1e9))
    return [_strip(tokens, prompt, end) for tokens in finished.sequences[:, 0].tolist()]


@dataclass
class _Live:
    """Beams still growing: ``[B * K, T]`` tokens and ``[B, K]`` summed log-probabilities."""

    sequences: Tensor
    scores: Tensor


@dataclass
class _Finished:
    """The K best ended texts of each image, best first."""

    sequences: Tensor
    scores: Tensor

    @classmethod
    def empty(cls, batch: int, beams: int, length: int, device: torch.device) -> "_Finished":
        return cls(
            torch.full((batch, beams, length), -1, dtype=torch.int64, device=device),
            torch.full((batch, beams), -1e9, device=device),
        )

    def add(self, candidates_BCT: Tensor, scores_BC: Tensor) -> None:
        width = self.sequences.shape[2] - candidates_BCT.shape[2]
        padded = torch.nn.functional.pad(candidates_BCT, (0, width), value=-1)
        scores = torch.cat((self.scores, scores_BC), dim=1)
        self.scores, order = scores.topk(self.scores.shape[1], dim=1)
        all_sequences = torch.cat((self.sequences, padded), dim=1)
        self.sequences = all_sequences.gather(1, order[..., None].expand(-1, -1, padded.shape[2]))

    def settled(self, live_BK: Tensor, generated: int, decoding: Decoding) -> Tensor:
        """``[B, 1]``: no running beam can still beat the worst kept text of its image.

        Nothing is added to a settled image, or its caption would depend on how long the others of the batch take.
        """
        attainable = live_BK[:, :1] / generated**decoding.length_penalty
        return self.scores[:, -1:] >= attainable


def _new_cache(network: BlipNetwork, rows: int, length: int, context: list[Context]) -> Cache:
    text = network.config.text
    shape = (rows, text.heads, length, text.width // text.heads)
    return Cache(text.layers, shape, context[0].keys)


def _next_logits(network: BlipNetwork, new_BT: Tensor, context: list[Context], cache: Cache) -> Tensor:
    states = network.text_decoder(new_BT, None, context, causal=True, cache=cache)
    return network.lm_head(states[:, -1], network.word_embedding).float()


def _constrain(logits_BV: Tensor, sequences_BT: Tensor, end: int, decoding: Decoding) -> Tensor:
    """Repetition penalty on tokens already written, and no end before the minimum length."""
    if decoding.repetition_penalty != 1.0:
        seen = logits_BV.gather(1, sequences_BT)
        penalty = decoding.repetition_penalty
        logits_BV = logits_BV.scatter(1, sequences_BT, torch.where(seen < 0, seen * penalty, seen / penalty))
    if sequences_BT.shape[1] < decoding.min_length:
        logits_BV = logits_BV.clone()
        logits_BV[:, end] = -torch.inf
    return logits_BV


def _strip(tokens: list[int], prompt: int, end: int) -> list[int]:
    body = [token for token in tokens[prompt:] if token >= 0]
    return body[:-1] if body and body[-1] == end else body
