"""Models of some steps are kept on the way, and the run is the same as without."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from blip.training.loop import candidate_steps
from tests.training.scripts import said_by
from tests.training.tiny_run import write_dataset

SCRIPT = """
import os, sys
from dataclasses import replace
from pathlib import Path
import torch
from blip.model.checkpoints import ModelCard, save_model
from blip.training.loop import train
from tests import tiny
from tests.training.tiny_run import plan

os.chdir(sys.argv[1])
steps, candidates, average, kill_at = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
planned = plan(steps, kill_at, changes={"training": {"average": average}})
run = planned.run.model_copy(update={"candidates": candidates})
save = lambda place: save_model(planned.objective.network, tiny.tokenizer(), place, ModelCard())
torch.manual_seed(5)
try:
    train(replace(planned, run=run, export=save))
    save(Path("model"))
except BaseException as error:
    print(type(error).__name__)
print(*sorted(path.name for path in Path("runs/tiny/candidates").glob("*")))
"""


def run(folder: Path, candidates: int, average: float = 0.0, kill_at: int = 0, steps: int = 6) -> list[str]:
    """Train; the names of the candidates that there are at the end."""
    if not folder.is_dir():
        folder.mkdir()
        write_dataset(folder / "data")
    return said_by(SCRIPT, str(folder), str(steps), str(candidates), str(average), str(kill_at))[-1].split()


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_they_are_evenly_spaced_and_the_last_step_is_not_among_them() -> None:
    assert candidate_steps(900, 1) == []
    assert candidate_steps(900, 3) == [300, 600]
    assert candidate_steps(5061, 15)[:2] == [337, 675]
    assert candidate_steps(4, 4) == [1, 2, 3]
    assert candidate_steps(2, 5) == [1], "an epoch may be shorter than was thought"


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_a_run_that_keeps_them_ends_with_the_same_weights(tmp_path: Path, average: float) -> None:
    assert run(tmp_path / "without", 1, average) == []
    assert run(tmp_path / "with", 3, average) == ["000002", "000004"]
    assert same(tmp_path / "with/model", tmp_path / "without/model")
    kept = [tmp_path / "with/runs/tiny/candidates" / name for name in ("000002", "000004")]
    assert not same(*kept) and not same(kept[1], tmp_path / "with/model")


def test_a_run_that_was_stopped_has_them_all_and_the_same_ones(tmp_path: Path) -> None:
    """Stopped after step 4, in the middle of which the second was kept; the first is of the life before."""
    assert run(tmp_path / "whole", 3) == ["000002", "000004"]
    assert run(tmp_path / "stopped", 3, kill_at=-4) == ["000002", "000004"]
    assert not (tmp_path / "stopped/model").exists()
    assert run(tmp_path / "stopped", 3) == ["000002", "000004"]
    for name in ("runs/tiny/candidates/000002", "runs/tiny/candidates/000004", "model"):
        assert same(tmp_path / "whole" / name, tmp_path / "stopped" / name)
