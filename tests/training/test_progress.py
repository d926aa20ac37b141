"""The line that a person reads fits a terminal and says what is worth saying."""

import pytest

from blip.training.progress import line

USUAL = {
    "loss": 5.1234, "itc": 2.6123, "itm": 0.5812, "lm": 1.9299, "pairs_per_second": 2612.3, "mfu": 0.309,
    "data_wait": 0.004, "skipped_steps": 0, "grad_norm": 3.2,
}  # fmt: skip


def test_a_usual_line() -> None:
    assert line("pretrain", 240, 1000, USUAL, 72.4) == (
        "pretrain  step  240/1000  24%  loss 5.123  itc 2.612  itm 0.581  lm 1.930  2,612 pairs/s  MFU 31%  ETA 1:12"
    )


@pytest.mark.parametrize("name", ["pretrain", "captioner", "finetune@captioning", "pretrain_bootstrapped"])
def test_usual_lines_fit_120_columns(name: str) -> None:
    assert len(line(name, 240, 1000, USUAL, 72.4)) <= 120
    assert len(line("pretrain", 24000, 100000, USUAL, 72000)) <= 120


def test_waits_and_skipped_steps_are_said_where_there_are_some() -> None:
    said = line("pretrain", 240, 1000, USUAL | {"data_wait": 0.12, "skipped_steps": 2}, 72.4)
    assert "  waits 12% for data  2 skipped  ETA" in said
    assert "waits" not in line("pretrain", 240, 1000, USUAL, 72.4)


def test_a_run_of_days_has_hours_and_a_run_of_one_loss_has_no_others() -> None:
    figures = {"loss": 2.0, "lm": 2.0, "pairs_per_second": 3.0, "data_wait": 0.0, "skipped_steps": 0}
    assert line("captioner", 5, 10, figures, 90061) == (
        "captioner  step  5/10  50%  loss 2.000  lm 2.000  3 pairs/s  ETA 25:01:01"
    )
