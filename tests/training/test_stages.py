"""ZeRO divides what the ranks hold and changes nothing that comes out; float16 keeps to it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from blip.training.launch import spawn
from tests.training.tiny_run import write_dataset

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases of `stages_run`, run once."""
    made = tmp_path_factory.mktemp("stages")
    write_dataset(made / "data")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PYTHONPATH": ROOT, "DS_ACCELERATOR": "cpu", "TORCHDYNAMO_DISABLE": 1}.items():
            patch.setenv(name, str(value))
        arguments = ["tests.training.stages_run", str(made), str(request.param)]
        spawn("stages", request.param, arguments, made / "done", threads=1)
    return made


def report(folder: Path, case: str) -> dict[str, Any]:
    path = folder / f"{case}.json"
    if not path.exists():
        pytest.skip("one rank has no gradients to divide")
    return json.loads(path.read_text())


def weights(folder: Path, case: str) -> dict[str, Tensor]:
    return torch.load(folder / f"{case}.pt", weights_only=True)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_stage_has_the_same_losses_and_saves_the_same_averaged_weights(
    folder: Path, stage: int
) -> None:
    first, other = report(folder, "adamw-0"), report(folder, f"adamw-{stage}")
    assert len(first["losses"]) == 4
    assert other["losses"] == pytest.approx(first["losses"], rel=1e-6)
    saved = weights(folder, f"adamw-{stage}")
    for name, weight in weights(folder, "adamw-0").items():
        torch.testing.assert_close(saved[name], weight, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("case", ["adamw-0", "adamw-1", "adamw-2", "adamw-3", "float16-3"])
def test_a_candidate_of_any_stage_has_the_averaged_weights_of_its_step(folder: Path, case: str) -> None:
    report(folder, case)
    saved = weights(folder, f"{case}.candidate")
    averaged = {name for name in saved if name.startswith("average.") and "extra_state" not in name}
    assert len(averaged) > 20
    for name in averaged:
        own = name.removeprefix("average.").replace("/", ".")
        torch.testing.assert_close(saved[own], saved[name].to(saved[own].dtype), atol=0, rtol=0, msg=name)
    final = weights(folder, case)
    assert any(not torch.equal(saved[name], value) for name, value in final.items())


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_adamw_alone_is_clipped_alike_in_every_stage(folder: Path, stage: int) -> None:
    """The rounding of the norm differs, and Muon's steps make more of it."""
    losses = report(folder, f"muon-{stage}")["losses"]
    assert losses == pytest.approx(report(folder, "muon-0")["losses"], rel=1e-3)


def test_float16_begins_as_float32_and_is_the_same_in_every_stage(folder: Path) -> None:
    """Later losses are others: a step that overflows is left out, and negatives are drawn by rounded similarities."""
    first, third = report(folder, "float16-1"), report(folder, "float16-3")
    assert first["losses"][0] == pytest.approx(report(folder, "adamw-0")["losses"][0], rel=1e-3)
    assert third["losses"] == pytest.approx(first["losses"], rel=1e-4)
    assert first["losses"][-1] < 0.8 * first["losses"][0]
    assert first["scale"] == third["scale"]
    assert first["scale"] >= 2.0**13, "a step or two at most are lost to finding the scale"


def test_steps_that_overflow_change_no_weight_and_lower_the_scale(folder: Path) -> None:
    overflown = report(folder, "overflow")
    assert overflown["unchanged"]
    assert overflown["scale"] == 2.0**116
    assert len(overflown["losses"]) == 4
