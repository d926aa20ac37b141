"""Where the model looked: gradient-weighted cross-attention maps (Selvaraju et al., 2017; ALBEF section 6)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from blip.data.text import Tokenizer
from blip.model.blip import BlipNetwork
from blip.model.text import Layer

LONGEST_WORD = 512  # tokens


@dataclass(frozen=True)
class Explanation:
    """Heat maps of one image and text.

    Attributes:
        words: of the text, those that the model read and knows.
        maps: ``[len(words), S, S]`` from 0 to 1, the hottest place of all words.
        probability: that image and text match.
        unknown: words that the vocabulary cannot spell, which are all one to the model.
        cut: words behind the longest text that the model reads.
    """

    words: list[str]
    maps: np.ndarray
    probability: float
    unknown: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)


@dataclass
class WordPlaces:
    """The words of a text, by number, with the known tokens that spell them, and those that have none."""

    found: dict[int, list[int]] = field(default_factory=dict)
    unknown: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)


def place_words(tokenizer: Tokenizer, words: list[str], tokens: int) -> WordPlaces:
    """Where words stand in the row of `tokens` tokens that a text of them becomes, [CLS] and [SEP] included."""
    places, start = WordPlaces(), 1
    rows, masks = tokenizer.encode(words, LONGEST_WORD)
    for number, (row, mask) in enumerate(zip(rows, masks, strict=True)):
        spelled = row[1 : int(mask.sum()) - 1].tolist()
        known = [start + at for at, token in enumerate(spelled) if token != tokenizer.unk]
        start += len(spelled)
        if start > tokens - 1:
            places.cut.append(number)
        elif known:
            places.found[number] = known
        elif spelled:
            places.unknown.append(number)
    return places


def explain(network: BlipNetwork, image: Tensor, ids_1T: Tensor, mask_1T: Tensor) -> tuple[Tensor, float]:
    """Heat maps ``[T, S, S]`` of every token over one normalised image ``[1, 3, S, S]``, and the match probability.

    A map is the cross-attention of a layer two thirds up (of two layers the first: the last one reaches the ITM head
    through position 0 alone), each head weighted by the positive part of the gradient of the "matched" logit.
    """
    layers = len(network.text_encoder.layers)
    layer = network.text_encoder.layers[max(min(layers - 2, 2 * layers // 3), 0)]
    assert isinstance(layer, Layer)
    with torch.enable_grad(), _recorded(layer) as recorded:
        context = network.text_encoder.project_context(network.vision(image))
        states = network.text_encoder(ids_1T, mask_1T, context)
        logits = network.itm_head(states[:, 0]).float()
        (gradient,) = torch.autograd.grad(logits[0, 1], recorded[0])
    weighted = (recorded[0].detach() * gradient.clamp_min(0))[0].mean(0)[:, 1:]
    grid = round(weighted.shape[1] ** 0.5)
    maps = weighted.view(-1, 1, grid, grid).float()
    maps = (
        F.interpolate(maps, size=image.shape[-2:], mode="bicubic", align_corners=False)
        .squeeze(1)
        .clamp_min(0)
    )
    return maps, logits.softmax(dim=1)[0, 1].item()


@contextmanager
def _recorded(layer: Layer) -> Iterator[list[Tensor]]:
    """Keep the attention probabilities ``[B, H, T, N]`` of a layer in the list that is given.

    Compiled code would put them out beside the layer's result, which has then no gradient for them.
    """
    maps: list[Tensor] = []
    cross_attention, compiled = layer.cross_attention, layer._compiled_call_impl

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        probability = (scores if mask is None else scores + mask).softmax(dim=-1)
        maps.append(probability)
        return probability @ v

    usual = cross_attention.attend
    cross_attention.attend, layer._compiled_call_impl = attend, None
    try:
        yield maps
    finally:
        cross_attention.attend, layer._compiled_call_impl = usual, compiled
