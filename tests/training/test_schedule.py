"""Learning rates by step and by epoch, against the published ones."""

import math

import pytest

from blip.config import Optimiser, Run
from blip.training.loop import schedule_of
from blip.training.schedule import Schedule
from tests.training.tiny_run import SETTINGS


def run(epochs: int, **optimiser: object) -> Run:
    values = SETTINGS.pretrain.model_dump() | {"steps": None, "epochs": epochs}
    settings = Optimiser.model_validate({"lr": 1.0, "adam_lr": 3e-4, **optimiser})
    return Run.model_validate(values | {"optimiser": settings.model_dump()})


def test_warm_up_is_linear_from_its_start() -> None:
    schedule = Schedule(steps=100, steps_per_epoch=10, warmup_steps=4, warmup_factor=0.2)
    assert [schedule.factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_warm_up_from_nothing_wastes_no_step_and_reaches_the_peak() -> None:
    schedule = Schedule(steps=100, steps_per_epoch=10, warmup_steps=4)
    assert [schedule.factor(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_cosine_falls_to_the_floor() -> None:
    schedule = Schedule(steps=101, steps_per_epoch=10, warmup_steps=0, final_factor=0.1)
    assert schedule.factor(0) == 1
    assert schedule.factor(50) == pytest.approx(0.5545, abs=0.01)
    assert schedule.factor(100) == pytest.approx(0.1, abs=0.01)


def test_pre_training_has_the_published_rates() -> None:
    """20 epochs of 14M pairs in batches of 2880: lr 3e-4, 3000 steps from 1e-6, times 0.9 an epoch, floor 1e-6."""
    settings = {"warmup": 3000, "warmup_lr": 1e-6, "schedule": "epoch_decay", "decay": 0.9, "final_lr": 1e-6}
    schedule = schedule_of(run(20, **settings), batches_per_epoch=4861)

    def published(step: int) -> float:
        if step < 3000:
            return min(3e-4, 1e-6 + (3e-4 - 1e-6) * step / 3000)
        return max(1e-6, 3e-4 * 0.9 ** (step // 4861))

    assert schedule.steps == 20 * 4861
    for step in (0, 1, 1500, 2999, 3000, 4860, 4861, 9722, 20 * 4861 - 1):
        assert 3e-4 * schedule.factor(step) == pytest.approx(published(step), rel=1e-9)
    assert 3e-4 * schedule.factor(0) == pytest.approx(1e-6)


def test_fine_tuning_has_the_published_rates() -> None:
    """6 epochs of retrieval from 1e-5: a cosine that moves between epochs only, to a floor of 0."""
    schedule = schedule_of(run(6, adam_lr=1e-5, schedule="epoch_cosine"), batches_per_epoch=100)
    for step in (0, 99, 100, 350, 599):
        published = 1e-5 * 0.5 * (1 + math.cos(math.pi * (step // 100) / 6))
        assert 1e-5 * schedule.factor(step) == pytest.approx(published, rel=1e-9)


def test_the_floor_of_epoch_decay_holds() -> None:
    schedule = Schedule(steps=100, steps_per_epoch=10, kind="epoch_decay", decay=0.9, final_factor=0.5)
    assert schedule.factor(9) == 1
    assert schedule.factor(99) == 0.5


def test_a_step_of_several_batches_counts_once_in_an_epoch() -> None:
    values = run(2).model_dump() | {"training": {"accumulate": 4}}
    schedule = schedule_of(Run.model_validate(values), batches_per_epoch=40)
    assert (schedule.steps, schedule.steps_per_epoch) == (20, 10)


def test_a_warm_up_below_1_is_a_share_and_the_peak_is_that_of_the_optimiser() -> None:
    rates = {"lr": 0.02, "adam_lr": 3e-4, "final_lr": 0.002, "warmup_lr": 0.001}
    muon = schedule_of(run(2, name="muon", warmup=0.05, **rates), batches_per_epoch=100)
    assert (muon.warmup_steps, muon.final_factor, muon.warmup_factor) == pytest.approx((10, 0.1, 0.05))
