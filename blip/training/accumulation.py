"""The batches of one optimiser step: each for itself, or with ITC over all of them.

for losses in losses_of_step(forward, objective, batches, training, region):
    engine.backward(losses["loss"])
    engine.step()
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from blip.config import Training
from blip.model.batch import PairBatch
from blip.model.contrast import Contrast
from blip.model.objectives import PairObjective
from blip.training.random_state import random_state, set_random_state

Losses = dict[str, Tensor]
Region = Callable[[], AbstractContextManager[Any]]


def losses_of_step(
    forward: Callable[..., Losses],
    objective: nn.Module,
    batches: Iterable[Any],
    training: Training,
    region: Region,
) -> Iterator[Losses]:
    """The losses of one batch after another, whose mean is that of the step; each is to be used up before the next.

    Args:
        forward: the engine, which calls the objective.
        batches: as many as a step has, on their device.
        region: within which features are computed (autocast); forwards compute in it by themselves.
    """
    if training.accumulate_features and isinstance(objective, PairObjective) and objective.config.itc:
        yield from _with_cached_features(forward, objective, list(batches), region)
        return
    for number, batch in enumerate(batches):
        objective.first_of_step = number == 0  # type: ignore[assignment]
        yield forward(batch)


def _with_cached_features(
    forward: Callable[..., Losses], objective: PairObjective, batches: list[PairBatch], region: Region
) -> Iterator[Losses]:
    """Every batch is embedded twice with the same random numbers: first for ITC over all, then for its gradient."""
    device = batches[0].ids.device
    objective.first_of_step = False
    objective.move_twin()
    states, features = [], []
    for batch in batches:
        states.append(random_state(device))
        with region():  # with a graph, which goes at once: patches are dropped where there is one
            features.append(objective.features(batch).leaves())
    contrasts: list[Contrast] = objective.contrast(features)
    for batch, contrast, state in zip(batches, contrasts, states, strict=True):
        set_random_state(device, state)
        yield forward(batch, contrast)
