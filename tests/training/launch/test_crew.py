"""What node 0 has the other nodes end with."""

import pytest

from blip.errors import BadArguments, BlipError, Preempted
from blip.training.launch import crew


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
