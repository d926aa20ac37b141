"""The number of a rank that has ended stays its own until nothing is signalled by it any more."""

import os
from pathlib import Path

import psutil
import pytest

from blip.training.launch.place import Place
from blip.training.launch.ranks import Order, Ranks
from tests.processes import wait_until


def test_a_rank_that_ended_is_reaped_when_its_group_has_been_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(1, "drill", ("no.such.module",), (1,), 1, 1.0, 1.0, 1.0)
    ranks = Ranks(order, Place(0, 1), ("127.0.0.1", 29400), tmp_path)
    pid = ranks.processes[0].pid
    wait_until(lambda: not ranks.running())
    ranks.send(15)
    ranks.dump_stacks([0])
    assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, (
        "another process could have its number, and its group"
    )
    ranks.end(0.0)
    assert not psutil.pid_exists(pid) and ranks.codes() == {0: 1}
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("a group that may be somebody else's by now"))
    ranks.end(0.0)
