"""Nucleus sampling by its distribution: what `generate` draws is what the logits cut at p say."""

import pytest
import torch
from torch import Tensor

from blip.model.api import keyed_uniforms
from blip.model.generation import Decoding, generate
from tests import tiny

DRAWS = 6000
LENGTH = 3  # [DEC] and two tokens


@pytest.fixture(scope="module")
def model():
    return tiny.blip(seed=4)


@torch.inference_mode()
def draw(model, top_p: float, seed: int) -> Tensor:
    """``[DRAWS, 2]`` tokens for one image, the end token where a text had ended."""
    tokens = model.encode_images(tiny.images(1)).expand(DRAWS, -1, -1)
    context = model.network.text_decoder.project_context(tokens)
    start = torch.full((DRAWS, 1), model.tokenizer.bos)
    uniforms = keyed_uniforms([str(n) for n in range(DRAWS)], seed, LENGTH)
    end = model.tokenizer.sep
    texts = generate(model.network, context, start, end, Decoding(LENGTH, 1, top_p=top_p), uniforms)
    return torch.tensor([[*text, end, end][: LENGTH - 1] for text in texts])


@torch.inference_mode()
def expected(model, prefix: list[int], top_p: float) -> Tensor:
    """Probabilities ``[V]`` after a prefix, cut by adding up the likeliest tokens one by one."""
    network = model.network
    context = network.text_decoder.project_context(network.vision(tiny.images(1)))
    states = network.text_decoder(torch.tensor([[model.tokenizer.bos, *prefix]]), None, context, causal=True)
    probability = network.lm_head(states[0, -1], network.word_embedding).softmax(dim=0)
    kept, total = torch.zeros_like(probability), 0.0
    for token in probability.argsort(descending=True).tolist():
        if total >= top_p:
            break
        kept[token] = probability[token]
        total += probability[token].item()
    return kept / kept.sum()


def chi_square(drawn: Tensor, probability_V: Tensor) -> tuple[float, int]:
    """Pearson's statistic and its degrees of freedom; tokens expected fewer than five times are one cell together
    with the rarest of the others."""
    means, order = (probability_V * len(drawn)).sort(descending=True)
    counts = torch.bincount(drawn, minlength=len(means))[order].float()
    cells = int((means >= 5).sum())
    means = torch.cat((means[: cells - 1], means[cells - 1 :].sum()[None]))
    counts = torch.cat((counts[: cells - 1], counts[cells - 1 :].sum()[None]))
    return ((counts - means).square() / means).sum().item(), cells - 1


def bound(freedom: int) -> float:
    """Four deviations above the mean of the chi-square distribution: passed by far less than one fair run in 1,000."""
    return freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("top_p", [0.5, 0.9, 1.0])
def test_first_tokens_follow_the_logits_cut_at_p(model, top_p: float) -> None:
    probability = expected(model, [], top_p)
    first = draw(model, top_p, seed=1)[:, 0]
    assert (probability[first] > 0).all()
    statistic, freedom = chi_square(first, probability)
    assert freedom > 5
    assert statistic < bound(freedom)


def test_second_tokens_follow_the_logits_after_the_first(model) -> None:
    drawn = draw(model, 0.9, seed=2)
    first = drawn[drawn[:, 0] != model.tokenizer.sep, 0].mode().values.item()
    second = drawn[drawn[:, 0] == first, 1]
    probability = expected(model, [int(first)], 0.9)
    assert (probability[second] > 0).all()
    statistic, freedom = chi_square(second, probability)
    assert freedom > 5
    assert statistic < bound(freedom)


def test_the_statistic_tells_another_cut_apart(model) -> None:
    first = draw(model, 0.9, seed=3)[:, 0]
    statistic, freedom = chi_square(first, expected(model, [], 0.8))
    assert statistic > 2 * bound(freedom)
