"""Of two runs of one name one trains; the other is told who does, and goes on when that one is gone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blip.config import Launch
from blip.errors import BlipError
from blip.training.launch import spawn
from tests.processes import kill, wait_until
from tests.training.tiny_run import write_dataset

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
FEW = json.dumps({"training": {"checkpoint_every": 2}})
OTHERS = json.dumps({"training": {"checkpoint_every": 2}, "optimiser": {"lr": 0.003}})


WAITING = """
import sys
from pathlib import Path
from blip import lock
from tests.training import tiny_run

def taken(file, take=lock._taken):
    found = take(file)
    if found is None:
        Path(sys.argv[1], "waits").touch()
    return found

lock._taken = taken
tiny_run.main()
"""


def start(
    folder: Path, steps: int, changes: str = FEW, program: tuple[str, ...] = ("-m", "tests.training.tiny_run")
) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TORCHDYNAMO_DISABLE": "1"}
    command = [sys.executable, *program, str(folder), str(steps), "0", "1", changes]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_a_checkpoint(folder: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not list(folder.glob("runs/tiny/step-*/complete")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("changes", [FEW, OTHERS], ids=["alike", "other settings"])
def test_a_second_run_of_the_name_is_refused_and_disturbs_nothing(tmp_path: Path, changes: str) -> None:
    write_dataset(tmp_path / "data")
    first = start(tmp_path, 100_000)
    try:
        wait_for_a_checkpoint(tmp_path, first)
        second = start(tmp_path, 100_000 if changes == FEW else 8, changes)
        _, said = second.communicate(timeout=120)
        assert second.returncode == 1
        assert f"runs/tiny: another process (pid {first.pid} on {socket.gethostname()}) trains it" in said
        assert first.poll() is None
        assert not list((tmp_path / "runs").glob("tiny.????????")), "nothing was moved away"
    finally:
        first.kill()
        first.communicate()


def test_when_the_first_is_killed_the_second_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    first = start(tmp_path, 400)
    try:
        wait_for_a_checkpoint(tmp_path, first)
        first.send_signal(signal.SIGSTOP)
        second = start(tmp_path, 400, program=("-c", WAITING))
        try:
            wait_until((tmp_path / "waits").exists, 120)
            first.kill()
            said, wrong = second.communicate(timeout=240)
        finally:
            kill(second)
    finally:
        kill(first)
    assert second.returncode == 0, wrong
    assert "resuming at step" in said


def test_the_agent_of_ranks_holds_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    write_dataset(tmp_path / "data")
    marker = tmp_path / "runs/tiny/summary.json"
    arguments = ["tests.training.tiny_run", str(tmp_path), "4", "0", "2"]
    spawn("tiny", 2, arguments, marker, 1, Launch.model_validate({}))
    assert marker.is_file(), "its own ranks are not refused"
    assert (tmp_path / "runs/tiny.lock").read_text().split()[0] == str(os.getpid())
    refused = start(tmp_path, 4)
    _, said = refused.communicate(timeout=120)
    assert refused.returncode == 1 and f"another process (pid {os.getpid()} on " in said


def test_a_second_crew_is_refused_before_it_starts_a_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blip.training.owner.ENDING_SECONDS", 0.0)
    write_dataset(tmp_path / "data")
    first = start(tmp_path, 100_000)
    try:
        wait_for_a_checkpoint(tmp_path, first)
        marker = tmp_path / "runs/tiny/summary.json"
        with pytest.raises(BlipError, match=rf"another process \(pid {first.pid} on .*\) trains it"):
            spawn("tiny", 2, ["no.such.module"], marker, 1, Launch.model_validate({}))
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
