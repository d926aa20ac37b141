import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from blip.data.jobs import open_pool, run_in_order, run_jobs
from blip.errors import BadArguments, BlipError


def test_one_worker_is_this_process() -> None:
    with open_pool(workers=1) as pool:
        assert list(run_jobs(pool, lambda _: os.getpid(), range(2))) == [os.getpid()] * 2


def test_the_environment_says_how_many_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIP_WORKERS", "1")
    with open_pool() as pool:
        assert pool.executor is None
    monkeypatch.setenv("BLIP_WORKERS", "many")
    with pytest.raises(BadArguments, match="BLIP_WORKERS='many'"), open_pool():
        pass


def test_every_job_is_done_once() -> None:
    with open_pool(workers=2) as pool:
        assert sorted(run_jobs(pool, math.factorial, range(20))) == [math.factorial(n) for n in range(20)]


def test_results_come_in_the_order_of_the_jobs_where_that_is_asked_for() -> None:
    jobs = [20_000, *range(20)]  # the first takes longest
    with open_pool(workers=2) as pool:
        assert list(run_in_order(pool, math.factorial, jobs)) == [math.factorial(n) for n in jobs]


def test_jobs_are_drawn_as_they_are_needed() -> None:
    drawn = []
    with open_pool(workers=2) as pool:
        results = run_jobs(pool, math.isqrt, (drawn.append(n) or n for n in range(1000)))
        next(results)
        assert len(drawn) <= 6
        results.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_worker_that_dies_is_an_error_with_the_way_out() -> None:
    with open_pool(workers=2) as pool, pytest.raises(BlipError, match=r"ended from outside.*fewer workers"):
        list(run_jobs(pool, signal.raise_signal, [signal.SIGKILL] * 3))


def test_a_scheduler_that_does_not_answer_is_named() -> None:
    with (
        pytest.raises(BlipError, match=r"dask scheduler tcp://127\.0\.0\.1:9"),
        open_pool(dask="tcp://127.0.0.1:9"),
    ):
        pass


SLEEPER = """
import sys, time
from blip.data.jobs import open_pool, run_jobs
if __name__ == "__main__":
    with open_pool(workers=2) as pool:
        for _ in run_jobs(pool, time.sleep, [0.01] * 2 + [600] * 4):
            print("one", flush=True)
"""


def test_kill_9_of_the_parent_leaves_no_worker(tmp_path: Path) -> None:
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, cwd=Path.cwd())
    assert parent.stdout and parent.stdout.readline() == b"one\n"
    workers = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    assert len(workers) >= 2
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
