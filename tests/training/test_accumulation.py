"""Several batches of a step: ITC over all of them is that of one large batch."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from blip.config import Training
from blip.model.batch import PairBatch
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.training.accumulation import losses_of_step
from tests import tiny

WORDS = tiny.tokenizer()
TOKENS = WORDS.special_tokens
CACHED = Training.model_validate({"accumulate": 4, "accumulate_features": True})
PLAIN = Training.model_validate({"accumulate": 4})
ITC_ALONE = {"itm": 0.0, "lm": 0.0, "queue": 24, "alpha_ramp": 0.0}


def objective(**config: Any) -> PairObjective:
    torch.manual_seed(0)
    made = PairObjective(tiny.network(), ObjectiveConfig(**config), TOKENS).train()
    with torch.no_grad():  # the twin lags behind, as it does in a run
        for weight in made.network.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    return made


def batches(of: int) -> list[PairBatch]:
    torch.manual_seed(3)
    images = torch.randn(16, 3, 32, 32)
    ids = torch.randint(8, 40, (16, 6))
    ids[:, 0] = WORDS.cls
    group = torch.arange(16)[:, None].expand(-1, 2)
    parts = (x.split(of) for x in (images, ids, torch.ones_like(ids), group))
    return [PairBatch(*part) for part in zip(*parts, strict=True)]


def step(made: PairObjective, parts: list[PairBatch], training: Training) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean ITC of a step and the gradients, of the mean of its batches' losses."""
    itc = []
    torch.manual_seed(5)
    for losses in losses_of_step(made, made, parts, training, nullcontext):
        (losses["loss"] / len(parts)).backward()
        itc.append(losses["itc"].detach())
    return torch.stack(itc).mean(), {n: p.grad for n, p in made.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("contrast", ["softmax", "sigmoid"])
def test_four_batches_of_four_are_one_of_sixteen(contrast: str) -> None:
    four, one = (objective(**ITC_ALONE, contrast=contrast) for _ in range(2))
    for _ in range(2):  # the second step compares with the queue that the first has filled
        loss4, gradients4 = step(four, batches(4), CACHED)
        loss1, gradients1 = step(one, batches(16), Training.model_validate({}))
        assert loss4.item() == pytest.approx(loss1.item(), abs=1e-5)
        assert gradients4.keys() == gradients1.keys()
        for name, gradient in gradients1.items():
            torch.testing.assert_close(gradients4[name], gradient, atol=1e-5, rtol=1e-4, msg=name)
    state4, state1 = four.state_dict(), one.state_dict()
    for name in (n for n in state1 if n.startswith(("twin", "queue"))):
        torch.testing.assert_close(state4[name], state1[name], atol=1e-6, rtol=0, msg=name)


def test_plain_accumulation_sees_less() -> None:
    config = ITC_ALONE | {"queue": 0}
    plain, _ = step(objective(**config), batches(4), PLAIN)
    cached, _ = step(objective(**config), batches(4), CACHED)
    assert plain < cached - 0.5, "4 keys are told apart more easily than 16"


@pytest.mark.parametrize("training", [PLAIN, CACHED])
def test_the_twin_moves_once_a_step_and_every_pair_enters_the_queue(training: Training) -> None:
    made, once = objective(**ITC_ALONE), objective(**ITC_ALONE)
    once.move_twin()
    step(made, batches(4), training)
    assert made.twin is not None and once.twin is not None and made.queue is not None
    for name, weight in once.twin.named_buffers():
        assert torch.equal(made.twin.get_buffer(name), weight), name
    assert made.queue.position.item() == 16
    assert made.queue.group[:16, 0].tolist() == list(range(16))


def test_dropout_is_the_same_both_times() -> None:
    """The features that ITC is computed from are those that get its gradient."""
    made = objective(queue=24)
    for part in made.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    seen: list[Tensor] = []
    embed = made.network.embed_text
    made.network.embed_text = lambda *a: seen.append(embed(*a)) or seen[-1]  # type: ignore[method-assign]
    step(made, batches(4), CACHED)
    for first, second in zip(seen[:4], seen[4:], strict=True):
        assert torch.equal(first, second)


def test_itm_and_lm_are_those_of_each_batch() -> None:
    made = objective(queue=0)
    made.config = replace(made.config, label_smoothing=0.0)
    lm = [losses["lm"].item() for losses in losses_of_step(made, made, batches(4), CACHED, nullcontext)]
    alone = [made(batch)["lm"].item() for batch in batches(4)]
    assert lm == pytest.approx(alone, rel=1e-5)


def test_divided_weights_are_refused() -> None:
    with pytest.raises(ValidationError, match="zero_stage 0, 1 or 2"):
        Training.model_validate({"accumulate_features": True, "zero_stage": 3})
