"""What node 0 has the other nodes end with."""

import pytest

from blip.errors import BadArguments, BlipError, Preempted
from blip.training.launch import crew
from blip.training.launch.node import Report


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
