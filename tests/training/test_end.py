"""When training is over its memory is free: the model that it made is validated in the same process."""

from pathlib import Path

import pytest

from tests.training.scripts import said_by
from tests.training.tiny_run import write_dataset

SCRIPT = """
import gc, os, sys, weakref
from blip.training import loop
from tests.training.tiny_run import plan

seen = {}

def build(objective, *arguments, old=loop.build_engine):
    engine = old(objective, *arguments)
    seen.update(engine=weakref.ref(engine), optimiser=weakref.ref(engine.optimizer))
    return engine

loop.build_engine = build
os.chdir(sys.argv[1])
planned = plan(3, zero_stage=int(sys.argv[2]))
weights = [weakref.ref(parameter) for parameter in planned.objective.parameters()]
loop.train(planned)
gc.disable()
print("after training", [name for name, one in seen.items() if one() is not None])
del planned
print("after all", sum(one() is not None for one in weights))
"""


@pytest.mark.parametrize("zero_stage", ["0", "1", "2"])
def test_engine_optimiser_and_weights_are_gone(tmp_path: Path, zero_stage: str) -> None:
    write_dataset(tmp_path / "data")
    assert said_by(SCRIPT, str(tmp_path), zero_stage)[-2:] == ["after training []", "after all 0"]
