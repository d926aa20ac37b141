"""What is measured of a run is the same however many ranks share its work, and by whatever stage of ZeRO."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from blip.training.launch import spawn
from tests.training.telemetry_run import WORKING, Towers, rows

NORMS = (
    "grad_norm",
    "grad_norm_vision",
    "grad_norm_text",
    "param_norm",
    "param_norm_vision",
    "param_norm_text",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[1, 2])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one rank, or two, have read."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        patch.setenv("DS_ACCELERATOR", "cpu")
        patch.setenv("TORCHDYNAMO_DISABLE", "1")
        arguments = ["tests.training.telemetry_run", str(folder)]
        spawn("readings", request.param, arguments, folder / "readings.json", threads=1)
    return json.loads((folder / "readings.json").read_text())


def expected() -> dict[str, float]:
    """Norms of the first step's gradients by plain autograd, over all rows at once."""
    towers = Towers()
    towers(rows(0))["loss"].backward()
    norms = {
        name: torch.stack([p.grad.norm() for p in part.parameters() if p.grad is not None]).norm().item()
        for name, part in towers.network.items()
    }
    both = sum(value**2 for value in norms.values()) ** 0.5
    return {"grad_norm": both, **{f"grad_norm_{name}": value for name, value in norms.items()}}


def test_gradient_norms_are_those_of_plain_autograd(found: dict[str, Any]) -> None:
    for way, readings in found["ways"].items():
        for name, value in expected().items():
            assert readings[0][name] == pytest.approx(value, rel=1e-5), (way, name)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_every_stage_of_zero_and_accumulation_has_the_same_norms_and_losses(
    found: dict[str, Any], optimiser: str
) -> None:
    ways = {way: readings for way, readings in found["ways"].items() if way.startswith(optimiser)}
    first = next(iter(ways.values()))
    for way, readings in ways.items():
        for reading, other in zip(readings, first, strict=True):
            assert {n: reading[n] for n in ("loss", *NORMS)} == pytest.approx(
                {n: other[n] for n in ("loss", *NORMS)}, rel=1e-4
            ), way
    assert first[0]["param_norm"] != first[1]["param_norm"], "the weights moved between the readings"


def test_the_losses_are_those_of_all_ranks(found: dict[str, Any]) -> None:
    with torch.no_grad():
        whole = Towers()(rows(0))["loss"].item()
    assert found["ways"]["adamw/1/1"][0]["loss"] == pytest.approx(whole, rel=1e-5)


def test_the_wait_of_the_slowest_rank_counts(found: dict[str, Any]) -> None:
    assert 0.1 < found["waiting"]["data_wait"] < 1


def test_speed_mfu_and_memory_are_of_the_run(found: dict[str, Any]) -> None:
    reading = found["waiting"]
    assert 0 < reading["pairs_per_second"] < 8 / WORKING
    assert reading["pairs_per_second_so_far"] == reading["pairs_per_second"], "it is the first"
    assert reading["mfu"] == pytest.approx(reading["pairs_per_second"] * 1e6 / 1e9)
    assert "mfu" not in found["too_fast"], "no device does more than it can"
    assert 0.1 < reading["memory_gb"] < 5
    assert reading["skipped_steps"] == 0
