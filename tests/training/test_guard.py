"""A step without a finite gradient is left out on all ranks, whatever the ZeRO stage; the samples are listed."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from blip.config import Launch
from blip.data.loader import Batch
from blip.errors import BlipError
from blip.training.fragments import own_state, whole_state
from blip.training.guard import BAD_BATCHES
from blip.training.launch import spawn
from blip.training.loop import Trainer, train
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


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """All that a checkpoint holds of the weights, the optimiser, the twin and the queue."""
    parts = own_state(trainer.engine) | whole_state(trainer.engine)
    return {name: value.detach().clone() for name, value in parts.items()}


@pytest.mark.parametrize(
    ("zero_stage", "optimiser"),
    [(0, "adamw"), (1, "adamw"), (2, "adamw"), (3, "adamw"), (0, "muon"), (1, "muon")],
)
def test_a_bad_step_changes_neither_weights_nor_the_optimiser_and_the_next_one_does(
    folder: Path, zero_stage: int, optimiser: str
) -> None:
    """The first of the third step's two batches is spoiled. Twin and queue go on, with what is finite."""
    changes = {"optimiser": {"name": optimiser}, "training": {"accumulate": 2, "batch_size": 4}}
    planned = plan(4, zero_stage=zero_stage, changes=changes)
    collate, seen = planned.collate, []

    def spoil_the_third(batch: Batch) -> Any:
        seen.append(state(trainer))  # before this step
        pairs = collate(batch)
        return spoiled(pairs, "nan") if len(seen) == 5 else pairs

    trainer = Trainer(replace(planned, collate=spoil_the_third))
    trainer.run()
    third, fourth, end = seen[4], seen[6], state(trainer)
    learnt = [name for name in third if "twin" not in name and "queue" not in name]
    assert any("exp_avg_sq" in name for name in learnt)
    assert [name for name in learnt if not torch.equal(third[name], fourth[name])] == []
    assert any(not torch.equal(fourth[name], end[name]) for name in learnt)
    assert all(value.isfinite().all() for value in end.values() if value.is_floating_point())
    row, other = bad_batches(folder)
    assert row["step"] == other["step"] == 3
    assert row["losses"]["loss"] == "nan"
    assert isinstance(other["losses"]["loss"], float)
    assert len(row["keys"]) == 4
    summary = json.loads((folder / "runs/tiny/summary.json").read_text())
    assert summary["skipped_steps"] == 1
    with Path("metrics/curves/tiny.csv").open() as curve:
        norms = {row["step"]: float(row["grad_norm"]) for row in csv.DictReader(curve)}
    assert list(norms) == ["1", "2", "4"], "of the one left out nothing is said"
    assert all(map(math.isfinite, norms.values()))


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


def test_a_checkpoint_that_is_due_at_a_step_left_out_is_saved_after_the_next_good_one(folder: Path) -> None:
    planned = plan(8, changes={"training": {"keep_checkpoints": 9}})
    collate, calls = planned.collate, iter(range(1, 100))
    bad = replace(
        planned,
        collate=lambda batch: spoiled(collate(batch), "nan") if next(calls) in (3, 4) else collate(batch),
    )
    train(bad)
    saved = sorted(path.parent.name for path in folder.glob("runs/tiny/step-*/complete"))
    assert saved == ["step-000005", "step-000006", "step-000008"]


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
