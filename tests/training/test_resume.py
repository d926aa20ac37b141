"""Killed or stopped, a run goes on where it was, bit for bit."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.tiny_run import write_dataset

ROOT = Path(__file__).parents[2]
STEPS = 8


def start(folder: Path, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TORCHDYNAMO_DISABLE": "1"}
    command = [sys.executable, "-m", "tests.training.tiny_run", str(folder), str(STEPS), str(kill_at)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def losses(folder: Path) -> list[tuple[str, str]]:
    with (folder / "metrics/curves/tiny.csv").open() as handle:
        return [(row["step"], row["loss"]) for row in csv.DictReader(handle)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_dataset(folder / "data")
    done = start(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_kill_9_and_again_gives_the_same_losses_and_weights(undisturbed: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    killed = start(tmp_path, kill_at=5)
    assert killed.returncode == -signal.SIGKILL
    resumed = start(tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming at step 3" in resumed.stdout
    assert losses(tmp_path) == losses(undisturbed)
    assert [step for step, _ in losses(tmp_path)] == [str(n) for n in range(1, STEPS + 1)]
    assert json.loads((tmp_path / "final.json").read_text()) == json.loads(
        (undisturbed / "final.json").read_text()
    )


def test_sigterm_saves_a_checkpoint_at_the_step_it_came(undisturbed: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    stopped = start(tmp_path, kill_at=-4)
    assert stopped.returncode != 0
    assert "stopped at step 4 with a checkpoint" in stopped.stderr
    resumed = start(tmp_path)
    assert "resuming at step 4" in resumed.stdout
    assert losses(tmp_path) == losses(undisturbed)


def test_a_checkpoint_of_other_settings_is_not_resumed(tmp_path: Path) -> None:
    from blip.training.checkpoint import COMPLETE, CheckpointStore

    store = CheckpointStore(tmp_path / "run", "one", keep=2)
    (tmp_path / "run/step-000003").mkdir()
    assert store.latest() is None, "without its marker a checkpoint does not count"
    (tmp_path / "run/step-000003" / COMPLETE).write_text("{}")
    assert CheckpointStore(tmp_path / "run", "one", keep=2).latest() == tmp_path / "run/step-000003"
    assert CheckpointStore(tmp_path / "run", "other", keep=2).latest() is None
