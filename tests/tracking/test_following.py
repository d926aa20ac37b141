"""A curve that another process writes is in MLflow while it grows, each row once."""

import csv
import errno
import os
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from blip.atomic import write_text
from blip.config import Settings
from blip.tracking import runs
from blip.tracking.following import following
from blip.tracking.runs import StageRun, stage_run


def append(path: Path, *rows: tuple[int, float]) -> None:
    with path.open("a", newline="") as handle:
        csv.writer(handle).writerows(rows)


def steps(run: StageRun, name: str = "loss") -> list[int]:
    return [point.step for point in run.client.get_metric_history(run.run_id, name)]


def wait_for(run: StageRun, expected: list[int]) -> None:
    deadline = time.monotonic() + 60
    while steps(run) != expected:
        assert time.monotonic() < deadline, steps(run)
        time.sleep(0.05)


def test_rows_are_logged_as_they_come(settings: Settings, tmp_path: Path) -> None:
    curve = tmp_path / "curve.csv"
    with stage_run("pretrain", settings) as run, following(run, curve, every=0.05):
        write_text(curve, "step,loss\n")
        append(curve, (20, 3.0))
        wait_for(run, [20])
        append(curve, (40, 2.0), (60, 1.0))
        wait_for(run, [20, 40, 60])
        assert [p.value for p in run.client.get_metric_history(run.run_id, "loss")] == [3.0, 2.0, 1.0]


def test_half_a_line_waits_for_its_end_and_the_last_row_is_not_lost(
    settings: Settings, tmp_path: Path
) -> None:
    curve = tmp_path / "curve.csv"
    with stage_run("pretrain", settings) as run:
        with following(run, curve, every=0.05):
            write_text(curve, "step,loss\n20,3.0\n40,1")
            wait_for(run, [20])
            with curve.open("a") as handle:
                handle.write("2.5\n")
        assert [p.value for p in run.client.get_metric_history(run.run_id, "loss")] == [3.0, 12.5]


def test_the_curve_of_another_run_is_not_taken_for_this_one(settings: Settings, tmp_path: Path) -> None:
    curve = tmp_path / "curve.csv"
    write_text(curve, "step,loss\n20,9.0\n40,9.0\n")
    with stage_run("pretrain", settings) as run:
        with following(run, curve, every=0.05):
            time.sleep(0.3)
            assert steps(run) == []
            write_text(curve, "step,loss\n20,3.0\n")
        assert [p.value for p in run.client.get_metric_history(run.run_id, "loss")] == [3.0]


def test_rows_that_stand_again_in_a_curve_that_was_cut_are_logged_once(
    settings: Settings, tmp_path: Path
) -> None:
    curve = tmp_path / "curve.csv"
    with stage_run("pretrain", settings) as run, following(run, curve, "member2.", every=0.05):
        write_text(curve, "step,loss\n20,3.0\n40,2.0\n60,1.0\n")
        deadline = time.monotonic() + 60
        while steps(run, "member2.loss") != [20, 40, 60] and time.monotonic() < deadline:
            time.sleep(0.05)
        write_text(curve, "step,loss\n20,3.0\n")
        append(curve, (40, 2.0), (60, 1.0), (80, 0.5))
    assert steps(run, "member2.loss") == [20, 40, 60, 80]


def test_what_a_run_does_after_it_went_back_is_logged_beside_what_it_gave_up(
    settings: Settings, tmp_path: Path
) -> None:
    curve = tmp_path / "curve.csv"
    with stage_run("pretrain", settings) as run, following(run, curve, every=0.05):
        write_text(curve, "step,loss\n20,3.0\n40,2.0\n60,9.0\n")
        wait_for(run, [20, 40, 60])
        write_text(curve, "step,loss\n20,3.0\n")
        append(curve, (40, 1.9), (60, 1.5), (80, 1.2))
    points = sorted(run.client.get_metric_history(run.run_id, "loss"), key=lambda p: (p.step, p.timestamp))
    assert [(p.step, p.value) for p in points] == [
        (20, 3.0),
        (40, 2.0),
        (40, 1.9),
        (60, 9.0),
        (60, 1.5),
        (80, 1.2),
    ]


@pytest.mark.parametrize(("anew", "losses"), [(False, [3.0, 2.0, 1.5]), (True, [3.0, 8.0, 2.0, 7.0, 1.5])])
def test_a_training_that_begins_anew_in_a_run_that_was_stopped_has_all_of_its_curve(
    settings: Settings, tmp_path: Path, anew: bool, losses: list[float]
) -> None:
    folder = tmp_path / "pretrain"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt), stage_run("pretrain", settings) as first:
        with following(first, folder / "curve.csv", every=0.05):
            write_text(folder / "curve.csv", "step,loss\n20,3.0\n40,2.0\n")
        raise KeyboardInterrupt
    with stage_run("pretrain", settings) as run, following(run, folder / "curve.csv", every=0.05):
        if anew:
            folder.rename(tmp_path / "pretrain.3f9c2a71")
        write_text(folder / "curve.csv", "step,loss\n20,8.0\n40,7.0\n60,1.5\n")
    assert run.run_id == first.run_id
    points = run.client.get_metric_history(run.run_id, "loss")
    assert [p.value for p in sorted(points, key=lambda p: (p.step, p.timestamp))] == losses


def test_a_server_that_is_down_is_asked_once_at_the_end_and_not_for_each_row(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(runs, "FLUSH_SECONDS", 0.0)
    curve = tmp_path / "curve.csv"
    with stage_run("pretrain", settings) as run:
        answering, run.client = run.client, MlflowClient("http://127.0.0.1:9")
        with following(run, curve, every=60):
            write_text(curve, "step,loss\n20,3.0\n40,2.0\n60,1.0\n")
        run.client = answering
        assert capsys.readouterr().err.count("MLflow did not take it") == 1
    assert steps(run) == [20, 40, 60]


@pytest.mark.parametrize("unseen", ["pretrain/curve.csv", "pretrain"])
def test_a_file_that_cannot_be_read_for_a_moment_is_read_at_the_next_look(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    unseen: str,
) -> None:
    curve, usual = tmp_path / "pretrain/curve.csv", Path.stat
    stale = OSError(errno.ESTALE, "Stale file handle")
    failures = iter([stale, stale])

    def stat(path: Path, **options: bool) -> os.stat_result:
        if path == tmp_path / unseen and (error := next(failures, None)):
            raise error
        return usual(path, **options)

    with stage_run("pretrain", settings) as run, following(run, curve, every=0.05):
        write_text(curve, "step,loss\n20,3.0\n")
        wait_for(run, [20])
        monkeypatch.setattr(Path, "stat", stat)
        append(curve, (40, 2.0))
        wait_for(run, [20, 40])
    assert capsys.readouterr().err.count("cannot be read for MLflow now") == 2


def test_an_error_of_the_block_is_the_one_that_is_seen(settings: Settings, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyError, match="ranks"),
        stage_run("pretrain", settings) as run,
        following(run, tmp_path / "curve.csv"),
    ):
        raise KeyError("ranks")
