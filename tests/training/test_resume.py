"""Killed or stopped, a run goes on where it was, bit for bit."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.training.ranks import Ranks, finish
from tests.training.tiny_run import write_dataset

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
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


CHANGES = {"training": {"batch_size": 2, "accumulate": 2, "workers": 2}}


def keys_of(folder: Path, rank: int) -> dict[tuple[int, int], list[str]]:
    """The samples of every batch, by epoch and number; of one that came twice as it came last."""
    lines = [line.split() for line in (folder / f"keys{rank}.txt").read_text().splitlines()]
    return {(int(epoch), int(number)): names for epoch, number, *names in lines}


def test_two_ranks_with_workers_and_accumulation_go_on_exactly_and_see_every_sample_once(
    tmp_path: Path,
) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        write_dataset(tmp_path / name / "data")
    expected = finish(tmp_path / "whole", 20, 2, CHANGES)
    assert Ranks(tmp_path / "killed", 20, 2, CHANGES, kill_at=7).wait() != 0
    assert finish(tmp_path / "killed", 20, 2, CHANGES) == expected
    assert "resuming at step 6" in (tmp_path / "killed/rank0.log").read_text()
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "killed")) == 20
    epochs: dict[int, Counter[str]] = {}
    for rank in range(2):
        found = keys_of(tmp_path / "killed", rank)
        assert found == keys_of(tmp_path / "whole", rank)
        for (epoch, _), names in found.items():
            epochs.setdefault(epoch, Counter()).update(names)
    assert [len(epochs[epoch]) for epoch in range(4)] == [40] * 4
    assert all(set(seen.values()) == {1} for seen in epochs.values())


def test_killed_at_any_moment_a_run_ends_with_the_same_weights() -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks/kill_drill.py"),
        "--kills",
        "4",
        "--steps",
        "16",
        "--behind",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "weights the same, curve the same" in done.stdout
