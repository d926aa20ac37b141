"""Activation checkpointing and compilation change no gradient, in the image encoder and in the text stacks."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from blip.config import Training
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.training.switches import apply_switches
from tests import tiny
from tests.compiling import run_compiling
from tests.training.test_accumulation import TOKENS, batches

ALL = ObjectiveConfig(queue=24)
LM_ALONE = ObjectiveConfig(itc=0.0, itm=0.0)  # both towers, and a third of the minutes that compilation takes


def gradients(switches: dict[str, bool], losses: ObjectiveConfig = ALL) -> dict[str, Tensor]:
    torch.manual_seed(0)
    made = PairObjective(tiny.network(), losses, TOKENS).train()
    apply_switches(made, Training.model_validate(switches))
    torch.manual_seed(1)
    made(batches(8)[0])["loss"].backward()
    return {name: p.grad for name, p in made.named_parameters() if p.grad is not None}


def test_checkpointed_layers_give_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = gradients({})
    recomputed = []
    from torch.utils.checkpoint import checkpoint

    for module in ("blip.model.vision", "blip.model.text"):
        monkeypatch.setattr(
            f"{module}.checkpoint",
            lambda layer, *a, module=module, **k: recomputed.append(module) or checkpoint(layer, *a, **k),
        )
    checkpointed = gradients({"activation_checkpointing": True})
    assert {"blip.model.vision", "blip.model.text"} == set(recomputed)
    assert checkpointed.keys() == plain.keys()
    for name, gradient in plain.items():
        assert torch.equal(checkpointed[name], gradient), name


@pytest.mark.slow
def test_compiled_layers_give_the_same_gradients(tmp_path: Path) -> None:
    assert run_compiling("tests.training.test_switches", tmp_path) > 0, "nothing was compiled"


def main() -> None:
    """Compare, and print how many graphs were compiled."""
    from torch._dynamo.utils import counters

    plain, compiled = gradients({}, LM_ALONE), gradients({"compile": True}, LM_ALONE)
    for name, gradient in plain.items():
        torch.testing.assert_close(compiled[name], gradient, atol=1e-5, rtol=1e-3, msg=name)
    print(counters["stats"]["unique_graphs"])


if __name__ == "__main__":
    main()
