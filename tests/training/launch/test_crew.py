"""What node 0 has the other nodes end with, and which of them it takes for lost."""

import time

import pytest

from blip.config import Launch
from blip.errors import BadArguments, BlipError, Preempted
from blip.training.launch import crew
from blip.training.launch.node import Report
from blip.training.launch.place import Place


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (BlipError("MLflow does not answer"), 1),
        (BadArguments("ranks that no node has"), 2),
        (Preempted("a checkpoint is saved"), 75),
        (SystemExit(143), 75),  # SIGTERM before the ranks' work or after it
        (SystemExit(1), 1),
        (KeyboardInterrupt(), 1),
    ],
)
def test_other_nodes_end_as_node_0_does(error: BaseException | None, code: int) -> None:
    assert crew._code(error) == code


def test_of_several_nodes_whose_ranks_hang_the_least_far_is_named_and_of_equal_ones_all() -> None:
    waits, hangs = Report(0, "hung", "rank 0 hung", (4, 1)), Report(1, "hung", "rank 1 hung", (4, 0))
    other = Report.load(Report(2, "hung", "rank 2 hung", (4, 0)).dump().encode())
    assert crew._cause([waits, hangs]).text == "rank 1 hung"
    assert crew._cause([waits, hangs, other]).text == "rank 1 hung; rank 2 hung"
    assert crew._cause([Report(0, "elsewhere"), waits]).text == "rank 0 hung"
    killed = Report(3, "killed", "rank 3 was ended by SIGKILL")
    assert crew._cause([waits, hangs, killed]) == killed


def test_a_node_that_falls_silent_is_named_and_one_that_never_came_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(crew, "LAST_WORDS_SECONDS", 0.0)
    place = Place(nodes=3, hosts=("gpu01", "gpu02", "gpu03"))
    with crew.Crew(place, Launch(start_timeout=2)) as made:
        alive = made._opened()
        assert made._silent_node() is None
        for _ in range(4):  # longer than the silence that is allowed
            alive.add("alive/1", 1)
            assert made._silent_node() is None
            time.sleep(0.2)
        time.sleep(0.5)
        assert made._silent_node() == Report(1, "lost", "node 1 (gpu02) has not been heard of for 0 s")
        alive.add("alive/1", 1)
        assert made._silent_node() is None
        made._heard[1] = 2, time.monotonic() + 60
        time.sleep(1)
        assert made._silent_node() == Report(2, "lost", "node 2 (gpu03) did not come for 2 s")
