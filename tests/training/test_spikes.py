"""A loss that shoots up sends a run back to its checkpoint, on with other data, a bounded number of times."""

import pytest
import torch

from blip.config import SpikeRule
from blip.errors import BlipError
from blip.training.engine import start_process_group
from blip.training.spikes import Spikes

FLAT = [5.0, 5.1, 4.9, 5.05, 4.95, 5.0, 5.1, 4.9]


@pytest.fixture(autouse=True)
def group() -> None:
    if not torch.distributed.is_initialized():
        start_process_group()


def spikes(**rule: float) -> Spikes:
    return Spikes(SpikeRule.model_validate({"window": 8, "threshold": 6.0, **rule}))


def feed(watch: Spikes, values: list[float], first: int = 1, now: bool = False) -> list[int]:
    found = [watch.seen(first + n, [{"loss": torch.tensor(v)}], now=now) for n, v in enumerate(values)]
    return [step for step in found if step]


def test_a_spike_is_found_one_step_later_and_is_not_counted_among_the_usual() -> None:
    watch = spikes()
    assert feed(watch, [*FLAT, 9.0, 5.0]) == [9]
    assert 9.0 not in watch.state_dict()["recent"]


def test_before_a_checkpoint_it_is_found_at_once() -> None:
    assert feed(spikes(), [*FLAT, 9.0], now=True) == [9]


def test_before_a_run_stops_it_is_found_at_once_too() -> None:
    watch = spikes()
    assert feed(watch, [*FLAT, 9.0]) == []
    assert watch.settle() == 9
    assert feed(watch, [5.0], first=10) == []
    assert watch.settle() is None


def test_noise_and_a_loss_that_falls_are_no_spikes() -> None:
    assert feed(spikes(), [*FLAT, 5.3, 4.0, 3.0, 2.0, 2.0]) == []


def test_the_threshold_tells_a_spike_from_what_is_none() -> None:
    assert feed(spikes(), [*FLAT, 5.6, 5.0]) == []
    assert feed(spikes(), [*FLAT, 5.75, 5.0]) == [9]


def test_a_spike_in_the_step_before_that_of_a_checkpoint_is_not_forgotten() -> None:
    watch = spikes()
    assert feed(watch, [*FLAT, 9.0]) == []
    assert feed(watch, [5.0], first=10, now=True) == [9]


def test_a_checkpoint_counts_the_rollbacks() -> None:
    watch, again = spikes(), spikes()
    watch.count_rollback("tiny", 9)
    again.load_state_dict(watch.state_dict())
    assert again.rollbacks == 1


def test_nothing_is_a_spike_before_the_window_is_full_or_the_warm_up_over() -> None:
    assert feed(spikes(), [5.0, 50.0, 5.0, 5.0]) == []
    assert feed(spikes(after=20), [*FLAT, 9.0, 5.0]) == []


def test_a_flat_stretch_makes_no_spike_of_a_small_step() -> None:
    assert feed(spikes(), [5.0] * 8 + [5.2, 5.0]) == []


def test_a_checkpoint_has_all_that_the_rule_needs() -> None:
    watch, again = spikes(), spikes()
    feed(watch, FLAT)
    again.load_state_dict(watch.state_dict())
    assert feed(again, [9.0, 5.0], first=9) == [9]


def test_rollbacks_are_bounded() -> None:
    watch = spikes(max_rollbacks=1)
    assert watch.count_rollback("tiny", 9) == 1
    with pytest.raises(BlipError, match="shot up at step 12 after 1 rollbacks"):
        watch.count_rollback("tiny", 12)
