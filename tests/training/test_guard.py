"""A step without a finite gradient is left out on all ranks, whatever the ZeRO stage; the samples are listed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from blip.config import Launch
from blip.data.loader import Batch
from blip.errors import BlipError
from blip.training.guard import BAD_BATCHES
from blip.training.launch import spawn
from blip.training.loop import Plan, train
from tests.training.drill_run import spoiled
from tests.training.tiny_run import plan, write_dataset

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    write_dataset(tmp_path / "data")
    return tmp_path


def bad_batches(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "runs/tiny" / BAD_BATCHES).read_text().splitlines()]


def state(plan: Plan) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in plan.objective.state_dict().items()}


@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_a_bad_step_changes_no_weight_and_the_next_one_does(folder: Path, zero_stage: int) -> None:
    """The third and last step is spoiled; weights and queue are those after the second."""
    planned = plan(4, zero_stage=zero_stage)
    collate, seen = planned.collate, []

    def spoil_the_third(batch: Batch) -> Any:
        seen.append(state(planned))  # before this step
        pairs = collate(batch)
        return spoiled(pairs, "nan") if len(seen) == 3 else pairs

    train(replace(planned, collate=spoil_the_third))
    third, fourth = seen[2], seen[3]
    trained = [name for name, _ in planned.objective.named_parameters()]
    for name in trained:
        assert torch.equal(third[name], fourth[name]), name
    end = state(planned)
    assert any(not torch.equal(fourth[name], end[name]) for name in trained)
    assert all(value.isfinite().all() for value in end.values() if value.is_floating_point())
    (row,) = bad_batches(folder)
    assert row["step"] == 3
    assert row["losses"]["loss"] == "nan"
    assert len(row["keys"]) == 8
    summary = json.loads((folder / "runs/tiny/summary.json").read_text())
    assert summary["skipped_steps"] == 1


def test_too_many_in_a_row_end_the_run_and_name_the_samples(folder: Path) -> None:
    planned = plan(20)
    collate, calls = planned.collate, iter(range(1, 100))
    spoil = replace(
        planned, collate=lambda batch: spoiled(collate(batch), "nan") if next(calls) > 4 else collate(batch)
    )
    with pytest.raises(
        BlipError, match=r"6 steps in a row, up to step 10, .* rank 0: .*loss is nan in the batch of s0"
    ):
        train(spoil)
    assert (folder / "runs/tiny/step-000003/complete").is_file()
    assert not list(folder.glob("runs/tiny/step-000006/complete")), "nothing was learnt to be saved"


@pytest.mark.slow
def test_one_rank_of_two_has_it_and_both_leave_the_step_out(folder: Path) -> None:
    run(folder, "1:4:nan")
    row = next(row for row in bad_batches(folder) if row["losses"]["loss"] == "nan")
    assert (row["rank"], row["step"]) == (1, 4)
    assert json.loads((folder / "final.json").read_text())["sum"] > 0


@pytest.mark.slow
def test_one_rank_of_two_has_it_for_ever_and_both_stop(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BlipError, match="the 2 ranks ended"):
        run(folder, "1:2:nans")
    assert "had no finite gradient: rank 1:" in capfd.readouterr().err
    assert not (folder / "final.json").exists()


def run(folder: Path, fault: str) -> None:
    arguments = ["tests.training.drill_run", str(folder), "8", "2", fault]
    spawn("tiny", 2, arguments, folder / "final.json", 1, Launch.model_validate({}))
