"""What a rank holds, by formula: how it is divided and what grows; and beside a real training process."""

import pytest
import torch

from benchmarks.memory import measured, objective_of, reckoned, run_of
from blip.config import Run
from blip.doctor.activations import Texts
from blip.doctor.footprint import BUCKET, Footprint, footprint

ROW = {"size": "small", "batch": 8, "dtype": "float32", "pixels": 224, "checkpointing": False}
WEIGHTS = 4 * 69_465_919


def run(**training: object) -> Run:
    made = run_of(ROW)
    return made.model_copy(update={"training": made.training.model_copy(update=training)})


def run_with(optimiser: str, **training: object) -> Run:
    made = run(**training)
    return made.model_copy(update={"optimiser": made.optimiser.model_copy(update={"name": optimiser})})


def held(of: Run, device: str = "cuda", dtype: torch.dtype = torch.float32) -> Footprint:
    with torch.device("meta"):
        objective = objective_of(ROW)
    return footprint(objective, of, Texts(16, 16), device, dtype)


def test_zero_divides_optimiser_gradients_and_weights_among_ranks():
    none, one, two, three = (held(run(ranks=4, zero_stage=stage)) for stage in range(4))
    assert none.state["weights"] == one.state["weights"] == two.state["weights"] == WEIGHTS
    assert none.state["optimiser"] == 2 * WEIGHTS
    assert one.state["optimiser"] == 3 * WEIGHTS / 4  # the moments, and ZeRO's copy of the weights
    assert one.update["gradients"] == WEIGHTS + BUCKET
    assert two.update["gradients"] == WEIGHTS / 4 + BUCKET
    assert three.state["weights"] < 0.5 * WEIGHTS


def test_one_rank_has_the_whole_optimiser_and_no_bucket():
    found = held(run())
    assert found.state["optimiser"] == 3 * WEIGHTS
    assert found.update["gradients"] == WEIGHTS


@pytest.mark.parametrize("stage", range(4))
def test_zero_1_and_2_keep_muons_momentum_twice_and_its_checkpoint_does_not(stage: int):
    muon, adam = (held(run_with(name, ranks=4, zero_stage=stage)).state for name in ("muon", "adamw"))
    shared = 4 if stage else 1
    matrices = shared * (adam["optimiser"] - muon["optimiser"])
    assert 0.7 * WEIGHTS < matrices < WEIGHTS
    assert muon.get("next momentum", 0.0) == (matrices / 4 if stage in (1, 2) else 0.0)


def test_accumulation_keeps_gradients_beside_activations():
    assert held(run(accumulate=2)).forward["gradients"] == WEIGHTS
    assert "gradients" not in held(run()).forward


def test_the_images_of_all_batches_are_held_where_itc_is_of_all_of_them():
    plain, cached = (held(run(accumulate=4, accumulate_features=given)) for given in (False, True))
    assert cached.forward.pop("other batches") == cached.update.pop("other batches") == 3 * 8 * 3 * 224**2 * 4
    assert cached == plain


def test_an_average_takes_what_the_weights_take():
    assert held(run(average=0.999)).state["average"] == WEIGHTS


def test_bfloat16_keeps_copies_of_the_weights_and_halves_activations():
    whole, half = held(run()), held(run(), dtype=torch.bfloat16)
    assert half.forward["copies of weights"] == WEIGHTS / 2
    assert half.forward["activations"] < 0.7 * whole.forward["activations"]
    assert half.state == whole.state


def test_activations_grow_with_the_batch():
    constant = 2 * (57600 + 8) * 256 * 4
    one, two = (held(run(batch_size=size)).forward["activations"] for size in (8, 16))
    assert two - constant == pytest.approx(2 * (one - constant), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "checkpointing"), [("float32", False), ("bfloat16", False), ("float32", True)]
)
def test_a_training_process_takes_what_is_reckoned_within_15_percent(dtype: str, checkpointing: bool):
    row = ROW | {"size": "tiny", "batch": 16, "dtype": dtype, "checkpointing": checkpointing}
    assert reckoned(row) == pytest.approx(measured(row, kept=False), rel=0.15)


@pytest.mark.slow
def test_a_training_process_with_muon_takes_what_is_reckoned_within_10_percent():
    row = ROW | {"batch": 2, "optimiser": "muon"}
    assert reckoned(row) == pytest.approx(measured(row, kept=False), rel=0.1)
