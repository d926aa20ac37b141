"""One pre-training step: losses, gradients, momentum twin and AdamW."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from blip.bench.composed import PADDED, ComposedObjective
from blip.bench.inputs import TOKENS, random_images, random_network, random_texts
from blip.bench.workload import Setup, computing
from blip.model.batch import PairBatch
from blip.model.compilation import compile_layers
from blip.model.objectives import ObjectiveConfig, PairObjective

QUEUE, QUEUE_SEED = 57600, 3


def ours(setup: Setup) -> Callable[[], dict[str, Tensor]]:
    """A step of `PairObjective`."""
    objective = objective_of(setup)
    batch = batch_of(setup)
    return _step(objective, setup, lambda model: model(batch))


def batch_of(setup: Setup) -> PairBatch:
    """Pairs that are ready on the device."""
    texts, groups = random_texts(setup.batch), torch.arange(setup.batch)[:, None].expand(-1, 2)
    images = random_images(setup.batch, setup.image_size)
    return PairBatch(images, texts.ids, texts.mask, groups).to(setup.device)


def objective_of(setup: Setup) -> PairObjective:
    """The published objective; equal weights every time."""
    network = random_network(setup.size, setup.image_size, setup.dropout)
    torch.manual_seed(QUEUE_SEED)
    objective = PairObjective(network, ObjectiveConfig(queue=QUEUE), TOKENS)
    if setup.compiled:
        compile_layers(objective)
    return objective


def theirs(setup: Setup) -> Callable[[], dict[str, Tensor]]:
    """The same step composed of `transformers` modules."""
    network = random_network(setup.size, setup.image_size, setup.dropout)
    texts = random_texts(setup.batch).padded(PADDED)
    images = random_images(setup.batch, setup.image_size)
    inputs = [value.to(setup.device) for value in (images, texts.ids, texts.mask)]
    return _step(ComposedObjective(network, QUEUE, QUEUE_SEED), setup, lambda model: model(*inputs))


def _step(
    objective: nn.Module, setup: Setup, losses_of: Callable[[nn.Module], dict[str, Tensor]]
) -> Callable[[], Any]:
    objective.to(setup.device).train()
    weights = [p for p in objective.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=1e-5, weight_decay=0.05, fused=True)

    def step() -> dict[str, Tensor]:
        optimiser.zero_grad(set_to_none=True)
        with computing(setup):
            losses = losses_of(objective)
        losses["loss"].backward()
        optimiser.step()
        return losses

    return step
