"""Learning rates by step and by epoch."""

import pytest

from blip.training.schedule import Schedule


def test_warm_up_is_linear_and_reaches_the_peak() -> None:
    schedule = Schedule(steps=100, steps_per_epoch=10, warmup_steps=4, warmup_factor=0.2)
    assert [schedule.factor(step) for step in range(4)] == pytest.approx([0.4, 0.6, 0.8, 1.0])


def test_cosine_falls_to_the_floor() -> None:
    schedule = Schedule(steps=101, steps_per_epoch=10, warmup_steps=0, final_factor=0.1)
    assert schedule.factor(0) == 1
    assert schedule.factor(50) == pytest.approx(0.5545, abs=0.01)
    assert schedule.factor(100) == pytest.approx(0.1, abs=0.01)


def test_epoch_decay_is_the_papers() -> None:
    schedule = Schedule(steps=100, steps_per_epoch=10, kind="epoch_decay", decay=0.9, final_factor=0.5)
    assert schedule.factor(9) == 1
    assert schedule.factor(10) == pytest.approx(0.9)
    assert schedule.factor(99) == 0.5


def test_epoch_cosine_moves_between_epochs_only() -> None:
    schedule = Schedule(steps=20, steps_per_epoch=10, kind="epoch_cosine")
    assert schedule.factor(0) == schedule.factor(9) == 1
    assert schedule.factor(10) == pytest.approx(0.5)
