"""Decoding: greedy, nucleus and beam search with static caches.

Lengths count every token of a sequence, ``[DEC]`` and the prompt included, as `transformers` counts them. The
prompt goes through in one pass, an image's keys and values are shared by its beams, and finished captions leave
the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from blip.errors import BadArguments
from blip.model.blip import BlipNetwork
from blip.model.context import Cache, Context, Tokens, select_rows

LIKELIEST = 512  # tokens that hold the nucleus of a trained captioner
LEAVING = 4  # rows that have ended leave when they are one in four: it copies what the others still need


Normalise = Literal["generated", "whole"]


@dataclass(frozen=True)
class Decoding:
    """How to decode: at most `max_length` tokens, no end before `min_length`.

    Beams of different lengths are compared by their log-probability divided by a length: of what was ``generated``,
    the end counted, as `transformers` does it; or of the ``whole`` text, with the prompt and without the end, as it
    did when BLIP's figures were published (4.15), which leaves the shorter ones better off. That one went on, too, for
    as long as the best text of a step would have beaten a kept one, had it just ended or not.
    """

    max_length: int = 20
    min_length: int = 5
    beams: int = 1
    top_p: float | None = None
    repetition_penalty: float = 1.0
    normalise: Normalise = "generated"

    def __post_init__(self) -> None:
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise BadArguments(f"top_p={self.top_p}: it is above 0 and at most 1")
        if self.repetition_penalty <= 0:
            raise BadArguments(
                f"repetition_penalty={self.repetition_penalty}: it is above 0; 1 has no effect"
            )

    def normal_length(self, tokens: int, prompt: int, ended: bool) -> int:
        """What the log-probability of a text of so many tokens is divided by."""
        return tokens - prompt if self.normalise == "generated" else tokens - ended


def decoding_context(
    network: BlipNetwork, tokens_BND: Tensor, decoding: Decoding, copies: int = 1
) -> Sequence[Context | Tokens]:
    """What the decoder's cross-attention reads of image tokens, for `generate`.

    Args:
        copies: texts that each image will have.
    """
    return network.text_decoder.context_for(tokens_BND, decoding.max_length * decoding.beams * copies)


@torch.inference_mode()
def generate(
    network: BlipNetwork,
    context: Sequence[Context | Tokens],
    prompt_BT: Tensor,
    end: int,
    decoding: Decoding,
    uniforms_BL: Tensor | None = None,
) -> list[list[int]]:
    """Write a text for every prompt.

    Args:
        context: what the decoder's cross-attention reads (`decoding_context`), B rows; or fewer, each of which several
            prompts that follow each other share uncopied (not for beams).
        prompt_BT: the tokens to start from, ``[DEC]`` first, without padding.
        end: id of the token that ends a text.
        uniforms_BL: for nucleus sampling, one uniform number per row and position, so that what is drawn for a row
            depends on its own numbers alone and not on the batch around it.

    Returns:
        token ids of each text without the prompt and the end token.
    """
    if decoding.max_length > (positions := network.config.text.max_positions):
        raise BadArguments(
            f"max_length={decoding.max_length}: this model has positions for {positions} tokens"
        )
    if prompt_BT.shape[1] >= decoding.max_length:
        return [[] for _ in prompt_BT]
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
    """Rows that have ended leave the batch, those that share a context together when all of them have."""
    rows = torch.arange(len(prompt_BT), device=prompt_BT.device)
    copies = len(rows) // max(context[0].rows, 1)
    sequences, new, prompt = prompt_BT, prompt_BT, prompt_BT.shape[1]
    ended = torch.zeros_like(rows, dtype=torch.bool)
    done: dict[int, list[int]] = {}
    cache = _new_cache(network, len(prompt_BT), decoding.max_length)
    while sequences.shape[1] < decoding.max_length and len(rows):
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
        leaving = ended.view(-1, copies).all(dim=1)
        if _leaves(len(leaving) - int(leaving.sum()), len(leaving)):
            gone = leaving.repeat_interleave(copies)
            _keep_texts(done, rows[gone], sequences[gone], prompt, end)
            keep = (~gone).nonzero().squeeze(1)
            rows, sequences, new, ended = rows[keep], sequences[keep], new[keep], ended[keep]
            context = select_rows(context, (~leaving).nonzero().squeeze(1))
            cache.select(keep)
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

    The draw inverts the cumulative distribution at ``uniform_B`` in [0, 1). Only the likeliest tokens are sorted where
    they are enough, row by row, which gives what sorting all of them gives.
    """
    probability = logits_BV.float().softmax(dim=-1)
    few = min(LIKELIEST, probability.shape[1])
    # Equals in the vocabulary's order
    likeliest = probability.topk(few, sorted=False).indices.sort(dim=-1).values
    best, order = probability.gather(1, likeliest).sort(dim=-1, descending=True, stable=True)
    chosen = _invert(best, likeliest.gather(1, order), top_p, uniform_B)
    flat = (~_reached(best, top_p)).nonzero().squeeze(1) if few < probability.shape[1] else None
    if flat is not None and len(flat):
        every, token = probability[flat].sort(dim=-1, descending=True, stable=True)
        chosen[flat] = _invert(every, token, top_p, uniform_B[flat])
    return chosen


def _reached(best_BK: Tensor, top_p: float) -> Tensor:
    """``[B]``: the nucleus ends before the last of these probabilities and whatever equals it."""
    behind = best_BK.cumsum(dim=-1) - best_BK >= top_p
    return (behind | (best_BK > best_BK[:, -1:])).all(dim=-1)


def _invert(descending_BK: Tensor, token_BK: Tensor, top_p: float, uniform_B: Tensor) -> Tensor:
    """The token of each row where the cumulative distribution of its nucleus reaches the uniform number."""
    cumulative = descending_BK.cumsum(dim=-1)
    kept = descending_BK.masked_fill(cumulative - descending_BK >= top_p, 0)
    reach = kept.cumsum(dim=-1)
    place = torch.searchsorted(reach, uniform_B[:, None].float() * reach[:, -1:], right=True)
    return token_BK.gather(1, place.clamp_max((kept > 0).sum(1, keepdim=True) - 1)).squeeze(1)


def _beam_search(
    network: BlipNetwork, context: Sequence[Context | Tokens], prompt_BT: Tensor, end: int, decoding: Decoding
) -> list[list[int]]:
    search = _Search.start(prompt_BT, end, decoding)
    done: dict[int, list[int]] = {}
    cache = _new_cache(network, len(prompt_BT), decoding.max_length)
    new = prompt_BT
    while len(search.images):
        logits = _next_logits(network, new, context, cache).log_softmax(dim=-1)
        parents_BK = search.advance(_constrain(logits, search.sequences, end, decoding))
        still = int(search.open_B1.sum())
        if _leaves(still, len(search.images)):
            done |= search.settled_texts()
            keep = search.open_B1[:, 0].nonzero().squeeze(1)
            search.select(keep)
            parents_BK, context = parents_BK[keep], select_rows(context, keep)
        cache.select(parents_BK.flatten())
        new = search.sequences[:, -1:]
    return [done[image] for image in range(len(prompt_BT))]


@dataclass
class _Search:
    """The beams of the images that are still in the batch.

    Attributes:
        images: ``[B]``, their numbers.
        sequences, scores: of the live beams, ``[B * K, T]`` tokens and ``[B, K]`` summed log-probabilities; K is 1
            until the prompt is read.
        open_B1: False where an image is settled; it leaves when `_leaves` says so.
    """

    images: Tensor
    sequences: Tensor
    scores: Tensor
    finished: "_Finished"
    open_B1: Tensor
    prompt: int
    end: int
    decoding: Decoding

    @classmethod
    def start(cls, prompt_BT: Tensor, end: int, decoding: Decoding) -> "_Search":
        batch, prompt = prompt_BT.shape
        images = torch.arange(batch, device=prompt_BT.device)
        finished = _Finished.empty(batch, decoding.beams, decoding.max_length, prompt_BT.device)
        scores, still_open = (
            torch.zeros_like(images)[:, None].float(),
            torch.ones_like(images)[:, None].bool(),
        )
        return cls(images, prompt_BT, scores, finished, still_open, prompt, end, decoding)

    def advance(self, logits_RV: Tensor) -> Tensor:
        """Lengthen every beam by a token. Returns the row ``[B, K]`` that each of the new beams goes on from."""
        beams, entries = self.decoding.beams, logits_RV.shape[-1]
        scores = (self.scores.flatten()[:, None] + logits_RV).view(len(self.images), -1)
        best, flat = scores.topk(2 * beams, dim=1)
        token = flat % entries
        rows = flat // entries + torch.arange(len(best), device=best.device)[:, None] * self.scores.shape[1]
        candidates = torch.cat((self.sequences[rows], token[..., None]), dim=2)
        length, at_end = candidates.shape[2], token == self.end
        within = torch.arange(2 * beams, device=best.device) < beams
        self._finish(candidates, best, at_end & within, ended=True)
        self.scores, order = best.masked_fill(at_end, -1e9).topk(beams, dim=1)
        live = candidates.gather(1, order[..., None].expand(-1, -1, length))
        self.sequences = live.flatten(0, 1)
        reaching = best if self.decoding.normalise == "whole" else self.scores
        attainable = reaching[:, :1] / self.decoding.normal_length(length, self.prompt, ended=True)
        self.open_B1 = self.open_B1 & ~self.finished.settled(attainable)
        if length >= self.decoding.max_length:
            self._finish(live, self.scores, torch.ones_like(self.scores, dtype=torch.bool), ended=False)
            self.open_B1 = torch.zeros_like(self.open_B1)
        return rows.gather(1, order)

    def _finish(self, candidates_BCT: Tensor, scores_BC: Tensor, done_BC: Tensor, ended: bool) -> None:
        """Offer texts to the finished ones of the images that are open; `ended`: by the end token."""
        normal = scores_BC / self.decoding.normal_length(candidates_BCT.shape[2], self.prompt, ended)
        self.finished.add(candidates_BCT, normal.masked_fill(~(done_BC & self.open_B1), -1e9))

    def settled_texts(self) -> dict[int, list[int]]:
        """The best text of each settled image, by its number."""
        settled = (~self.open_B1[:, 0]).nonzero().squeeze(1)
        texts = self.finished.sequences[settled, 0].tolist()
        return {
            image: _strip(tokens, self.prompt, self.end)
            for image, tokens in zip(self.images[settled].tolist(), texts, strict=True)
        }

    def select(self, index: Tensor) -> None:
        """Keep some of the images."""
        beams, length = self.scores.shape[1], self.sequences.shape[1]
        self.sequences = self.sequences.view(-1, beams, length)[index].flatten(0, 1)
        self.images, self.scores, self.open_B1 = self.images[index], self.scores[index], self.open_B1[index]
        self.finished = _Finished(self.finished.sequences[index], self.finished.scores[index])


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

    def settled(self, attainable_B1: Tensor) -> Tensor:
        """``[B, 1]``: the worst kept text of an image is no worse than what its beams are taken to reach.

        Nothing is added to a settled image, or its caption would depend on how long the others of the batch take.
        """
        return self.scores[:, -1:] >= attainable_B1


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
