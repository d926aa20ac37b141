"""The objective over consecutive training steps equals the slow form: losses to 1e-5, every gradient to 1e-4.

In float32 and without dropout or drop path, with the same random numbers for the negatives. Twin, queue and
temperature are carried from step to step by either side for itself; the weights, which one step of gradient descent
moves, are made equal again before the next, or the comparison would be of how fast rounding errors grow.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from blip.model.batch import PairBatch
from blip.model.objectives import ObjectiveConfig, PairObjective
from tests import tiny
from tests.model.reference import CLS, DEC, ENC, Key, Pair, Reference

TOKENS = tiny.tokenizer()
FIRST = {CLS: TOKENS.cls, DEC: TOKENS.bos, ENC: TOKENS.enc}
TEXTS = ("red apple", "", "the dog on the table", "green x", "picture of the red dog in the picture", "table")
LOSSES, GRADIENTS = 1e-5, 1e-4
RATE = 0.02  # the weights move, and gradients stay where float32 resolves 1e-4 with room


@dataclass(frozen=True)
class Case:
    """Batches as groups of their pairs; pair n of a batch has text n of `TEXTS`."""

    batches: tuple[tuple[tuple[int, int], ...], ...]
    settings: dict[str, Any] = field(default_factory=dict)
    prompt: int = 0
    temperature: float = 0.07


def distinct(*sizes: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Batches whose pairs are negatives of all others, within a batch and between them."""
    return tuple(tuple((100 * b + n, 100 * b + n) for n in range(size)) for b, size in enumerate(sizes))


CASES = {
    "pre-training: the queue wraps, with batches of three sizes": Case(
        distinct(4, 3, 5, 4), {"alpha_ramp": 0.5, "queue": 7, "momentum": 0.9}
    ),
    "the temperature starts out of range": Case(distinct(3, 3), {"queue": 4}, temperature=0.8),
    "a queue smaller than the batch": Case(distinct(4, 4, 4), {"queue": 2}),
    "no queue": Case(distinct(3, 3), {"queue": 0}),
    "retrieval: captions of one image are no negatives, no floor, and a batch is of one image": Case(
        (((1, 1), (1, 1), (2, 2), (3, 3)), ((1, 1), (4, 4), (5, 5), (4, 4)), ((6, 6), (6, 6))),
        {"lm": 0.0, "negative_floor": 0.0, "alpha_ramp": 0.4, "queue": 6},
    ),
    "pairs with the same text are no negatives, half of the draw is uniform, ITM counts twice": Case(
        (((1, 10), (2, 20), (3, 10), (4, 40)), ((5, 50), (6, 10), (7, 70), (2, 80))),
        {"random_negatives": 0.5, "itm": 2.0, "queue": 6},
    ),
    "captioning: the prompt is not learnt": Case(distinct(3, 4), {"itc": 0.0, "itm": 0.0}, prompt=2),
    "one pair": Case(distinct(1, 1), {"queue": 3}),
}


def pairs_of(groups: tuple[tuple[int, int], ...], step: int) -> list[Pair]:
    pictures = torch.randn(len(groups), 3, 32, 32, generator=torch.Generator().manual_seed(step))
    texts = [TEXTS[(n + step) % len(TEXTS)] for n in range(len(groups))]
    ids, mask = TOKENS.encode(texts, 9)
    return [
        Pair(picture, row[kept.bool()].tolist(), group)
        for picture, row, kept, group in zip(pictures, ids, mask, groups, strict=True)
    ]


def batch_of(pairs: list[Pair], prompt: int) -> PairBatch:
    longest = max(len(pair.ids) for pair in pairs)
    ids = torch.tensor([pair.ids + [TOKENS.pad] * (longest - len(pair.ids)) for pair in pairs])
    mask = torch.tensor([[1] * len(pair.ids) + [0] * (longest - len(pair.ids)) for pair in pairs])
    group = torch.tensor([pair.group for pair in pairs])
    return PairBatch(torch.stack([pair.image for pair in pairs]), ids, mask, group, prompt)


def twins(case: Case) -> tuple[PairObjective, Reference]:
    """The objective and the slow form with equal weights and an equal queue."""
    network = tiny.network(3, width=32)
    config = ObjectiveConfig(**case.settings)
    special = TOKENS.special_tokens
    made = PairObjective(network, config, special).train()
    with torch.no_grad():
        network.temperature.fill_(case.temperature)
    queue = made.queue
    keys = [Key(i, t, (-1, -1)) for i, t in zip(queue.image, queue.text, strict=True)] if queue else []
    slow = Reference(
        copy.deepcopy(network),
        [Key(key.image.clone(), key.text.clone(), key.group) for key in keys],
        FIRST,
        weights={"itc": config.itc, "itm": config.itm, "lm": config.lm},
        momentum=config.momentum,
        alpha=config.alpha,
        alpha_ramp=config.alpha_ramp,
        floor=config.negative_floor,
        random_share=config.random_negatives,
        smoothing=config.label_smoothing,
    )
    return made, slow


def gradients(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in network.named_parameters()}


@pytest.mark.parametrize("name", CASES)
def test_every_step_equals_the_slow_form(name: str) -> None:
    case = CASES[name]
    made, slow = twins(case)
    optimiser = torch.optim.SGD(slow.network.parameters(), RATE)
    for step, groups in enumerate(case.batches):
        pairs = pairs_of(groups, step)
        progress = made.progress = (step + 1) / (len(case.batches) + 1)
        torch.manual_seed(step)
        fast = made(batch_of(pairs, case.prompt))
        torch.manual_seed(step)
        expected = slow.step(pairs, progress, case.prompt)
        assert fast.keys() == expected.keys()
        for loss, value in expected.items():
            assert fast[loss].item() == pytest.approx(value.item(), abs=LOSSES), (step, loss)
        for network, losses in ((made.network, fast), (slow.network, expected)):
            network.zero_grad()
            losses["loss"].backward()
        theirs = gradients(slow.network)
        for weight, gradient in gradients(made.network).items():
            assert (gradient - theirs[weight]).abs().max().item() <= GRADIENTS, (step, weight)
        assert made.network.temperature.item() == pytest.approx(slow.network.temperature.item(), abs=LOSSES)
        optimiser.step()
        made.network.load_state_dict(slow.network.state_dict())
    assert_same_memory(made, slow)


def assert_same_memory(made: PairObjective, slow: Reference) -> None:
    """The twins moved alike and the queues hold the same, in the same order from the oldest on."""
    if made.twin is None or made.queue is None:
        return
    theirs = dict(slow.twin.named_parameters())
    weights = dict(made.twin.parts.named_buffers())
    assert weights
    for name, weight in weights.items():
        assert (weight - theirs[name]).abs().max().item() <= LOSSES, name
    oldest = int(made.queue.position)
    order = [(oldest + n) % made.queue.size for n in range(made.queue.size)]
    assert [tuple(row) for row in made.queue.group[order].tolist()] == [key.group for key in slow.queue]
    for row, key in zip(order, slow.queue, strict=True):
        assert torch.allclose(made.queue.image[row], key.image, atol=LOSSES)
        assert torch.allclose(made.queue.text[row], key.text, atol=LOSSES)


def test_the_comparison_can_fail() -> None:
    made, slow = twins(CASES["no queue"])
    slow.alpha = 0.3
    pairs = pairs_of(distinct(3)[0], 0)
    loss, expected = made(batch_of(pairs, 0))["itc"], slow.step(pairs, 1.0)["itc"]
    assert abs(loss.item() - expected.item()) > 100 * LOSSES
