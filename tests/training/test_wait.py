"""Ranks wait for each other as long as the settings let a step, a start or a checkpoint take."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from blip.ports import HOST
from blip.training import loop
from blip.training.checkpoint import LONGEST_WAIT
from tests.ports import free_port
from tests.processes import running
from tests.training.tiny_run import plan, write_dataset

ROOT = Path(__file__).parents[2]
RANK = """
from datetime import timedelta
import torch
import torch.distributed as dist
from blip.config import Optimiser, Training
from blip.training.engine import build_engine
from blip.training.vote import Vote

wait = timedelta(seconds=4321)
optimiser = Optimiser.model_validate({"lr": 0.1, "adam_lr": 0.1})
engine = build_engine(torch.nn.Linear(4, 4), Training.model_validate({"batch_size": 3}), optimiser, wait)
vote = Vote(wait)
assert vote(dist.get_rank() == 1)
groups = dist.group.WORLD, vote._group, engine.optimizer.dp_process_group
assert len({group.group_name for group in groups}) == 3
print([group._get_backend(torch.device("cpu")).options._timeout.total_seconds() for group in groups])
"""


def test_the_group_of_the_ranks_their_vote_and_that_of_deepspeed_wait_as_long_as_they_are_told() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "WORLD_SIZE": "2"}
    environment |= {"MASTER_ADDR": HOST, "MASTER_PORT": str(free_port())}
    environment["TORCHDYNAMO_DISABLE"] = "1"
    command = [sys.executable, "-c", RANK]
    options: dict = {"stdout": subprocess.PIPE, "text": True}
    with (
        running(command, env=environment | {"RANK": "0"}, **options) as first,
        running(command, env=environment | {"RANK": "1"}, **options) as second,
    ):
        said = [one.communicate(timeout=120)[0] for one in (first, second)]
    assert said == ["[4321.0, 4321.0, 4321.0]\n"] * 2
    assert (first.returncode, second.returncode) == (0, 0)


@pytest.mark.parametrize(
    ("patience", "seconds"),
    [((600.0, 7200.0), 7260.0), ((9000.0, 1800.0), 9060.0), ((0.0, 0.0), LONGEST_WAIT + 60)],
)
def test_a_run_waits_longer_than_what_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: tuple[float, float], seconds: float
) -> None:
    write_dataset(tmp_path / "data", samples=10)
    monkeypatch.chdir(tmp_path)
    given = []
    monkeypatch.setattr(loop, "build_engine", lambda *arguments: given.append(arguments) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loop.Trainer(replace(plan(1), patience=patience))
    assert given[0][-1].total_seconds() == seconds
