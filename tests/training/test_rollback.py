"""A run with a spike in its data: it goes back, leaves those data out and ends well; killed after that, the same."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from blip.config import Launch
from blip.errors import PREEMPTED
from blip.training.launch import spawn
from tests.training.tiny_run import write_dataset

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TORCHDYNAMO_DISABLE": "1"}
    command = [sys.executable, "-m", "tests.training.spike_run", str(folder), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def losses(folder: Path) -> list[tuple[str, str]]:
    with (folder / "metrics/curves/tiny.csv").open() as handle:
        return [(row["step"], row["loss"]) for row in csv.DictReader(handle)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_dataset(folder / "data", 120)
    done = start(folder)
    assert done.returncode == 0, done.stderr
    assert "the loss shot up at step 17: back to the last checkpoint" in done.stderr
    assert done.stderr.count("shot up") == 1
    return folder


def test_the_steps_are_taken_again_with_other_data(undisturbed: Path) -> None:
    assert [step for step, _ in losses(undisturbed)] == [str(step) for step in range(1, 25)]
    assert json.loads((undisturbed / "runs/tiny/summary.json").read_text())["rollbacks"] == 1
    assert float(dict(losses(undisturbed))["17"]) < float(dict(losses(undisturbed))["5"])


def test_killed_after_the_rollback_it_ends_the_same(undisturbed: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 120)
    killed = start(tmp_path, "kill")
    assert killed.returncode == -signal.SIGKILL
    assert "shot up" in killed.stderr
    again = start(tmp_path)
    assert again.returncode == 0, again.stderr
    assert losses(tmp_path) == losses(undisturbed)


def test_asked_to_stop_at_the_spike_it_keeps_the_checkpoint_before_and_ends_the_same(
    undisturbed: Path, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "data", 120)
    stopped = start(tmp_path, "term")
    assert stopped.returncode == PREEMPTED, stopped.stderr
    assert "stopped at step 17 whose loss shot up: the checkpoint before it stays" in stopped.stderr
    assert not (tmp_path / "runs/tiny/step-000017").exists()
    again = start(tmp_path)
    assert again.returncode == 0, again.stderr
    assert losses(tmp_path) == losses(undisturbed)


def test_two_ranks_go_back_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    write_dataset(tmp_path / "data", 240)
    arguments = ["tests.training.spike_run", str(tmp_path)]
    spawn("tiny", 2, arguments, tmp_path / "runs/tiny/summary.json", 1, Launch.model_validate({}))
    assert capfd.readouterr().err.count("the loss shot up at step 17: back to the last checkpoint") == 1
    assert [step for step, _ in losses(tmp_path)] == [str(step) for step in range(1, 25)]


def test_without_a_checkpoint_to_go_back_to_it_goes_on(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 120)
    done = start(tmp_path, "unsaved")
    assert done.returncode == 0, done.stderr
    assert "shot up at step 17, before there is a checkpoint" in done.stderr
    assert json.loads((tmp_path / "runs/tiny/summary.json").read_text())["rollbacks"] == 0


def test_without_an_end_of_spikes_it_stops_with_the_way_out(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 120)
    done = start(tmp_path, "always")
    assert done.returncode == 1
    assert "after 2 rollbacks" in done.stderr
