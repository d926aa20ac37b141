"""What an agent sees of its ranks, says of them, and leaves of them: nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from blip.config import Launch
from blip.errors import BlipError, Preempted
from blip.training.launch import spawn
from tests.processes import wait_until

ROOT = Path(__file__).parents[3]
MODULE = "tests.training.launch.beating_run"
WORKER = "PYTEST_XDIST_WORKER"  # in the environment of what a worker's tests start


@pytest.fixture(autouse=True)
def no_process_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    before = still_there()  # servers of other tests
    yield
    deadline = time.monotonic() + 5  # the kernel has a moment too
    while (left := still_there() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == set()


def still_there() -> set[int]:
    """Children of this process, and those of ranks, whoever is their parent by now."""
    return {process.pid for process in psutil.Process().children(recursive=True)} | set(sleepers())


def sleepers() -> list[int]:
    """The sleeping children that the ranks of this worker's tests start; another worker has ranks, too."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        theirs = process.info["environ"] or {}
        ours = theirs.get(WORKER) == os.environ.get(WORKER)
        if process.info["cmdline"] == ["sleep", "300"] and "BLIP_BEAT" in theirs and ours:
            found.append(process.pid)
    return found


def run(folder: Path, what: str, steps: int = 4, **launch: float) -> None:
    settings = Launch.model_validate({"start_timeout": 25.0, "stop_timeout": 30.0} | launch)
    spawn("drill", 2, [MODULE, str(folder), what, str(steps)], folder / "saved.json", 1, settings)


def test_ranks_that_finish_are_no_trouble(tmp_path: Path) -> None:
    run(tmp_path, "none")
    assert (tmp_path / "reached1").read_text() == "4"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("1:2:kill", r"rank 1 \(.*, process \d+\) was ended by SIGKILL, in step 2, computing"),
        ("0:2:fail", r"rank 0 \(.*, process \d+\) ended with code 3"),
        (
            "1:3:stop",
            r"rank 1 \(.*, process \d+\) stopped or stuck in the system: no sign for \d+ s, .* step 3",
        ),
        ("0:2:sleep", r"rank 0 \(.*, process \d+\) hung: no sign for \d+ s, the last in step 2, computing"),
        ("0:2:tire", r"rank 0 \(.*, process \d+\) hung: no sign for \d+ s, the last in step 2, computing"),
        (
            "1:1:mute",
            r"rank 1 \(.*, process \d+\) hung: no sign for \d+ s, the last in before the first step",
        ),
    ],
)
def test_a_rank_that_ends_or_hangs_is_named(tmp_path: Path, what: str, said: str) -> None:
    fault = what.rsplit(":", maxsplit=1)[-1]
    hurried = {} if fault in ("kill", "fail") else {"hang_timeout": 2.0}
    if fault == "mute":  # a start may take the longer of both
        hurried = {"start_timeout": 20.0, "hang_timeout": 20.0}
    with pytest.raises(BlipError, match=said):
        run(tmp_path, what, **hurried)


def test_ranks_that_end_well_without_the_marker_have_failed(tmp_path: Path) -> None:
    (tmp_path / "saved.json").mkdir()  # rank 0 cannot write it
    with pytest.raises(
        BlipError, match=r"the 2 ranks ended before all was done: rank 0 .* ended with code 1"
    ):
        spawn("drill", 2, [MODULE, str(tmp_path), "none", "2"], tmp_path / "other.json", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_agent_reaches_all_ranks(tmp_path: Path, number: signal.Signals) -> None:
    with (
        signal_when(tmp_path / "reached1", number),
        pytest.raises(Preempted, match="the ranks were stopped"),
    ):
        run(tmp_path, "none", steps=600)


def test_ranks_that_do_not_stop_in_time_are_ended(tmp_path: Path) -> None:
    with (
        signal_when(tmp_path / "reached1", signal.SIGTERM),
        pytest.raises(Preempted, match=r"did not save within 2 s: raise launch\.stop_timeout"),
    ):
        run(tmp_path, "deaf", steps=600, stop_timeout=2.0)


def test_an_agent_that_is_killed_takes_its_ranks_with_it(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.training.launch.test_node import run; "
    code += f"from pathlib import Path; run(Path({str(tmp_path)!r}), 'none', steps=600)"
    agent = subprocess.Popen([sys.executable, "-c", code])
    wait_for(tmp_path / "reached1")
    ranks = [child for child in psutil.Process(agent.pid).children() if MODULE in child.cmdline()]
    agent.kill()
    agent.wait()
    _, alive = psutil.wait_procs(ranks, timeout=5)
    assert len(ranks) == 2 and alive == []
    for sleeper in sleepers():  # a rank's own children watch their input, which `sleep` does not
        os.kill(sleeper, signal.SIGKILL)


@contextmanager
def signal_when(file: Path, number: signal.Signals) -> Iterator[None]:
    """Send this process a signal once a file is there, and none behind the block: it would end another test."""
    over = threading.Event()

    def act() -> None:
        while not over.wait(0.05):
            if file.exists():
                os.kill(os.getpid(), number)
                return

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def wait_for(file: Path) -> None:
    wait_until(file.exists, 240)
