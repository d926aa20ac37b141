"""Decoding: greedy, nucleus and beam search with static caches.

Lengths count every token of a sequence, ``[DEC]`` and the prompt included, as `transformers` counts them. The
prompt goes through in one pass, an image's keys and values are shared by its beams, and finished captions leave
the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blip.model.blip import BlipNetwork
from blip.model.text import Cache, Context, Tokens, select_rows

LEAVING = (
    4  # rows that have ended leave when they are one in so many: leaving copies what the others still need
)


@dataclass(frozen=True)
class Decoding:
    """How to decode: at most `max_length` tokens, no end before `min_length`."""

    max_length: int = 20
    min_length: int = 5
    beams: int = 1
    top_p: float | None = None
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0


def decoding_context(
    network: BlipNetwork, tokens_BND: Tensor, decoding: Decoding, mask_BN: Tensor | None = None
) -> Sequence[Context | Tokens]:
    """What the decoder's cross-attention reads of image tokens (or question states), for `generate`."""
    return network.text_decoder.context_for(tokens_BND, decoding.max_length * decoding.beams, mask_BN)


@torch.inference_mode()
def generate(
    network: BlipNetwork,
    context: Sequence[Context | Tokens],
    prompt_BT: Tensor,
    end: int,
    decoding: Decoding,
    uniforms_BL: Tensor | None = None,
) -> list[list[int]]:
    """Write a text for every row of `context`.

    Args:
        context: what the decoder's cross-attention reads (`decoding_context`), B rows.
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
    context: Sequence[Context | Tokens],
    prompt_BT: Tensor,
    end: int,
    decoding: Decoding,
    uniforms_BL: Tensor | None,
) -> list[list[int]]:
    rows = torch.arange(len(prompt_BT), device=prompt_BT.device)
    sequences, new, prompt = prompt_BT, prompt_BT, prompt_BT.shape[1]
    ended = torch.zeros_like(rows, dtype=torch.bool)
    done: dict[int, list[int]] = {}
    cache = _new_cache(network, len(prompt_BT), decoding.max_length)
    while sequences.shape[1] < decoding.max_length:
        logits = _constrain(_next_logits(network, new, context, cache), sequences, end, decoding)
        if decoding.top_p is None:
            chosen = logits.argmax(dim=-1)
        else:
            if uniforms_BL is None:
                raise ValueError("nucleus sampling needs uniforms_BL")
            chosen = nucleus(logits, decoding.top_p, uniforms_BL[rows, sequences.shape[1]])
        new = chosen[:, None]
        sequences = torch.cat((sequences, new), dim=1)
        ended = ended | (chosen == end)
        still = len(rows) - int(ended.sum())
        if _leaves(still, len(rows)):
            _keep_texts(done, rows[ended], sequences[ended], prompt, end)
            if not still:
                break
            keep = (~ended).nonzero().squeeze(1)
            rows, sequences, new, ended = rows[keep], sequences[keep], new[keep], ended[keep]
            context = select_rows(context, keep)
            cache.select(keep)
    else:
        _keep_texts(done, rows, sequences, prompt, end)
    return [done[row] for row in range(len(prompt_BT))]


def _leaves(still: int, rows: int) -> bool:
    """Whether the rows that have ended leave the batch now."""
    return still == 0 or (rows - still) * LEAVING >= rows


def _keep_texts(done: dict[int, list[int]], rows: Tensor, sequences: Tensor, prompt: int, end: int) -> None:
    """Note the texts of `rows`, up to their first end token."""
    for row, tokens in zip(rows.tolist(), sequences[:, prompt:].tolist(), strict=True):
        done[row] = tokens[: tokens.index(end)] if end in tokens else tokens


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
    network: BlipNetwork, context: Sequence[Context | Tokens], prompt_BT: Tensor, end: int, decoding: Decoding
) -> list[list[int]]:
    prompt, beams, device = prompt_BT.shape[1], decoding.beams, prompt_BT.device
    images = torch.arange(len(prompt_BT), device=device)
    live = _Live(
        prompt_BT, torch.zeros(len(prompt_BT), 1, device=device)
    )  # one beam, until the prompt is through
    finished = _Finished.empty(len(prompt_BT), beams, decoding.max_length, device)
    open_B1 = torch.ones(len(prompt_BT), 1, dtype=torch.bool, device=device)
    done: dict[int, list[int]] = {}
    cache = _new_cache(network, len(prompt_BT), decoding.max_length)
    new = prompt_BT
    while len(images):
        logits = _next_logits(network, new, context, cache)
        logits = _constrain(logits.log_softmax(dim=-1), live.sequences, end, decoding)
        scores = (live.scores.flatten()[:, None] + logits).view(len(images), -1)
        best, flat = scores.topk(2 * beams, dim=1)
        parent, token = flat // logits.shape[-1], flat % logits.shape[-1]
        length = live.sequences.shape[1] + 1
        at_end = token == end
        normal = best / (length - prompt) ** decoding.length_penalty
        within = torch.arange(2 * beams, device=device) < beams
        rows = parent + torch.arange(len(images), device=device)[:, None] * live.scores.shape[1]
        candidates = torch.cat((live.sequences[rows], token[..., None]), dim=2)
        finished.add(candidates, normal.masked_fill(~(at_end & within & open_B1), -1e9))
        live.scores, order = best.masked_fill(at_end, -1e9).topk(beams, dim=1)
        live.sequences = candidates.gather(1, order[..., None].expand(-1, -1, length)).flatten(0, 1)
        open_B1 = open_B1 & ~finished.settled(live.scores, length - prompt, decoding)
        if length >= decoding.max_length:
            running = live.scores / (length - prompt) ** decoding.length_penalty
            finished.add(live.sequences.view(*running.shape, length), running.masked_fill(~open_B1, -1e9))
            open_B1 = torch.zeros_like(open_B1)
        parents_BK = rows.gather(1, order)
        still = int(open_B1.sum())
        if _leaves(still, len(images)):
            settled, keep = ((~open_B1[:, 0]).nonzero().squeeze(1), open_B1[:, 0].nonzero().squeeze(1))
            _keep_best(done, images[settled], finished.sequences[settled, 0], prompt, end)
            images, open_B1, parents_BK = images[keep], open_B1[keep], parents_BK[keep]
            live, finished = live.select(keep, beams), finished.select(keep)
            context = select_rows(context, keep)
        cache.select(parents_BK.flatten())
        new = live.sequences[:, -1:]
    return [done[image] for image in range(len(prompt_BT))]


def _keep_best(done: dict[int, list[int]], images: Tensor, sequences: Tensor, prompt: int, end: int) -> None:
    """Note the best text of each image; -1 stands behind a text that has ended."""
    for image, tokens in zip(images.tolist(), sequences.tolist(), strict=True):
        done[image] = _strip(tokens, prompt, end)


@dataclass
class _Live:
    """Beams still growing: ``[B * K, T]`` tokens and ``[B, K]`` summed log-probabilities."""

    sequences: Tensor
    scores: Tensor

    def select(self, index: Tensor, beams: int) -> "_Live":
        """The beams of some images."""
        return _Live(
            self.sequences.view(-1, beams, self.sequences.shape[1])[index].flatten(0, 1), self.scores[index]
        )


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

    def select(self, index: Tensor) -> "_Finished":
        """The texts of some images."""
        return _Finished(self.sequences[index], self.scores[index])

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


def _new_cache(network: BlipNetwork, rows: int, length: int) -> Cache:
    text = network.config.text
    return Cache(text.layers, (rows, text.heads, length, text.width // text.heads), network.word_embedding)


def _next_logits(
    network: BlipNetwork, new_BT: Tensor, context: Sequence[Context | Tokens], cache: Cache
) -> Tensor:
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
