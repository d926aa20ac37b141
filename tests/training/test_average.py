"""The average of the weights that is saved in place of the last ones."""

import pytest
import torch
from torch import nn

from blip.training.average import WeightAverage


def objective() -> nn.Sequential:
    made = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    made[1].requires_grad_(False)
    nn.init.zeros_(first(made).weight)
    return made


def first(made: nn.Sequential) -> nn.Linear:
    """Its layer that is trained."""
    layer = made[0]
    assert isinstance(layer, nn.Linear)
    return layer


@pytest.mark.parametrize("limit", [0.5, 0.26])  # of which the first is not reached
def test_it_is_the_exponential_average_in_float32(limit: float) -> None:
    made = objective()
    average = WeightAverage.of(made, decay=limit)
    for weight in (1.0, 2.0, 3.0, 4.0):
        nn.init.constant_(first(made).weight, weight)
        average.update(made)
    # decay (1 + n) / (10 + n) is 2/11, 3/12, 4/13, 5/14 after 1 to 4 steps
    expected = 0.0
    for n, weight in enumerate((1.0, 2.0, 3.0, 4.0), start=1):
        decay = min(limit, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    average.copy_to(made)
    assert first(made).weight.item() == pytest.approx(expected)
    assert average.get_buffer("0/weight").dtype is torch.float32


def test_what_is_not_trained_is_left_alone() -> None:
    made = objective()
    assert [name for name, _ in WeightAverage(made, 0.9).named_buffers()] == ["0/weight", "0/bias"]


def test_a_checkpoint_of_the_objective_holds_it_and_its_age() -> None:
    made, resumed = objective(), objective()
    average = WeightAverage.of(made, decay=0.9)
    nn.init.ones_(first(made).weight)
    average.update(made)
    again = WeightAverage.of(resumed, decay=0.9)
    resumed.load_state_dict(made.state_dict())
    assert again.steps == 1
    assert torch.equal(again.get_buffer("0/weight"), average.get_buffer("0/weight"))
