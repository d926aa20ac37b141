"""What training in the process of a test leaves in its environment goes again."""

import os
from collections.abc import Iterator

import pytest

OF_A_RANK = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def no_rank_left() -> Iterator[None]:
    """The processes that a later test starts are no ranks of this one."""
    before = {name: os.environ.get(name) for name in OF_A_RANK}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
