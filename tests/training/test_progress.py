"""The line that a person reads fits a terminal and says what is worth saying."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from blip.training.progress import COLUMNS, Progress, line

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


class OneReading:
    """A meter that always tells the usual."""

    empty, norms = False, SimpleNamespace()

    def read(self) -> dict[str, float]:
        return dict(USUAL)


def progress(curve: Path, start: int) -> Progress:
    return Progress("pretrain", 10, 1, cast(Any, OneReading()), curve, start)


def steps_of(curve: Path) -> list[str]:
    with curve.open(newline="") as handle:
        return [row["step"] for row in csv.DictReader(handle)]


def test_rows_behind_the_step_that_a_run_goes_on_from_are_cut(tmp_path: Path) -> None:
    curve = tmp_path / "curve.csv"
    first = progress(curve, 0)
    for step in (1, 2, 3):
        first.report(step, 0.1)
    again = progress(curve, 2)
    again.report(3, 0.1)
    assert steps_of(curve) == ["1", "2", "3"]


def test_a_curve_that_was_removed_meanwhile_begins_with_its_header(tmp_path: Path) -> None:
    first = progress(tmp_path / "curve.csv", 0)
    (tmp_path / "curve.csv").unlink()
    first.report(4, 0.1)
    first.report(5, 0.1)
    assert steps_of(tmp_path / "curve.csv") == ["4", "5"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("52,5.1,2.6\r\n54,5.0,2.5\r\n", id="no header"),
        pytest.param("\0" * 40, id="zeros"),
    ],
)
def test_a_curve_that_cannot_be_read_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    curve = tmp_path / "curve.csv"
    curve.write_text(text, newline="")
    progress(curve, 54).report(55, 0.1)
    assert steps_of(curve) == ["55"]
    assert (tmp_path / "curve.damaged.csv").read_bytes().decode() == text
    assert f"the curve {curve} cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param("\0" * 40, id="zeros"),
        pytest.param("4\0\0", id="zeros in a row"),
        pytest.param("4", id="a number"),
        pytest.param("4,5.1,2.6", id="half a row"),
        pytest.param(f"4{',1' * (len(COLUMNS) - 1)}", id="perhaps half a figure"),
        pytest.param(f",5.1{',1' * (len(COLUMNS) - 2)}\r\n", id="no number"),
        pytest.param(f"\0\0\r\n4{',1' * (len(COLUMNS) - 1)}\r\n", id="more behind it"),
        pytest.param('4,"5.1', id="a quote"),
        pytest.param("\udcff\udcfe4", id="no text"),
    ],
)
def test_of_a_curve_with_a_torn_end_the_rows_before_it_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tail: str
) -> None:
    curve = tmp_path / "curve.csv"
    first = progress(curve, 0)
    for step in (1, 2, 3):
        first.report(step, 0.1)
    before = curve.read_bytes()
    curve.write_bytes(before + tail.encode(errors="surrogateescape"))
    again = progress(curve, 5)
    assert curve.read_bytes() == before
    assert f"the curve {curve} is torn behind step 3" in capsys.readouterr().err
    again.report(6, 0.1)
    assert steps_of(curve) == ["1", "2", "3", "6"]
    assert list(tmp_path.iterdir()) == [curve]


def test_a_curve_whose_header_alone_was_written_goes_on(tmp_path: Path) -> None:
    curve = tmp_path / "curve.csv"
    progress(curve, 0)
    curve.write_bytes(curve.read_bytes() + b"\0\0\0")
    progress(curve, 5).report(6, 0.1)
    assert steps_of(curve) == ["6"]
    assert list(tmp_path.iterdir()) == [curve]


def test_a_slow_run_is_not_said_to_stand_still() -> None:
    figures = {"loss": 1.0, "pairs_per_second": 0.2149, "data_wait": 0.0, "skipped_steps": 0}
    assert "  0.21 pairs/s  " in line("pretrain", 1, 18, figures, 60)
    assert "  1,235 pairs/s  " in line("pretrain", 1, 18, figures | {"pairs_per_second": 1234.6}, 60)
