"""In a step the host waits for no number of the device but those that travel while it has other work (`Readback`).

On PyTorch's device without data an operation whose result has a size that depends on the data fails, as does a number
read back: where a step runs there, it asks a GPU for nothing.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from blip.model import decoder_loss, objectives, text
from blip.model.batch import PairBatch
from blip.model.dialogs import DialogBatch, DialogObjective, encode_dialogs
from blip.model.nlvr import pre_trained
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.model.statements import StatementBatch, StatementObjective
from blip.model.vqa import AnswerObjective, QuestionBatch
from tests import tiny

TOKENS = tiny.tokenizer()
SPECIAL = TOKENS.special_tokens
TEXTS = ["red apple on the table", "dog", "the green picture", "a dog in red"]
TWO_EACH = torch.tensor([0, 0, 1, 1])


def _pairs(**more: Any) -> tuple[nn.Module, PairBatch]:
    """Two images with two texts each."""
    ids, mask = TOKENS.encode(TEXTS, 30)
    group = torch.tensor([[1, 1], [1, 2], [3, 3], [3, 4]])
    batch = PairBatch(tiny.images(2), ids, mask, group, image=TWO_EACH, prompt_tokens=2, **more)
    return PairObjective(tiny.network(), ObjectiveConfig(queue=8), SPECIAL), batch


def _pairs_and_distractors() -> tuple[nn.Module, PairBatch]:
    ids, mask = TOKENS.encode(TEXTS[::-1], 30)
    return _pairs(distractor_ids=ids, distractor_mask=mask)


def _questions() -> tuple[nn.Module, QuestionBatch]:
    asked, answers = TOKENS.encode(TEXTS, 30), TOKENS.encode(["red", "green apple", "dog", "the table"], 30)
    batch = QuestionBatch(tiny.images(2), TWO_EACH, *asked, *answers, torch.tensor([1.0, 0.3, 0.6, 1.0]))
    return AnswerObjective(tiny.network(tied=False), SPECIAL), batch


def _statements() -> tuple[nn.Module, StatementBatch]:
    ids, mask = TOKENS.encode(TEXTS, 30)
    batch = StatementBatch(tiny.images(4), TWO_EACH, ids, mask, torch.tensor([1, 0, 0, 1]))
    return StatementObjective(pre_trained(tiny.network())), batch


def _dialogs() -> tuple[nn.Module, DialogBatch]:
    dialogs = encode_dialogs(TOKENS, TEXTS, ["red", "green"] * 2, 30)
    captions = TOKENS.encode(TEXTS[:2], 30)
    batch = DialogBatch(tiny.images(2), *captions, TWO_EACH, *dialogs, torch.tensor([1, 0, 1, 0]))
    return DialogObjective(tiny.network()), batch


STEPS = (_pairs, _pairs_and_distractors, _questions, _statements, _dialogs)


@pytest.fixture(autouse=True)
def packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As wide networks are, in which padding is not computed and tokens therefore are counted."""
    monkeypatch.setattr(text, "pays_to_pack", lambda states: True)


@pytest.fixture
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's device without data has none and fails when asked."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    monkeypatch.setattr(objectives, "full_precision", lambda like: nullcontext())


class _Arrived:
    """A `Readback` of the device without data: as many tokens as fit."""

    def __init__(self, *numbers: torch.Tensor) -> None:
        self.count = len(numbers)

    def wait(self) -> list[int]:
        return [30 * 3 * len(TEXTS)] * self.count


@pytest.fixture
def no_readback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives, "Readback", _Arrived)


@pytest.mark.usefixtures("no_autocast", "no_readback")
@pytest.mark.parametrize("made", STEPS)
def test_a_step_asks_the_device_for_nothing(made: Callable[[], tuple[nn.Module, Any]]) -> None:
    objective, batch = made()
    losses = objective.to("meta").train()(batch.to("meta"))
    losses["loss"].backward()
    assert all(p.grad is not None for p in objective.parameters() if p.requires_grad)


@pytest.mark.usefixtures("no_autocast")
@pytest.mark.parametrize("made", STEPS)
def test_without_the_hosts_counts_it_would_have_to(made: Callable[[], tuple[nn.Module, Any]]) -> None:
    """The check above can fail: a batch that comes uncounted."""
    objective, batch = made()
    uncounted = type(batch)(
        **{n: x.to("meta") if isinstance(x, torch.Tensor) else x for n, x in vars(batch).items()}
    )
    with pytest.raises(NotImplementedError, match="nonzero"):
        objective.to("meta").train()(uncounted)


@pytest.mark.parametrize("made", STEPS)
def test_counts_from_the_host_change_no_loss_and_no_gradient(
    made: Callable[[], tuple[nn.Module, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for known in (False, True):
        for module in (text, decoder_loss):
            monkeypatch.setattr(module, "count_for", lambda x, tokens, known=known: tokens if known else None)
        objective, batch = made()
        torch.manual_seed(1)  # the negatives that are drawn
        losses = objective.train()(batch.to("cpu"))
        losses["loss"].backward()
        results.append([*losses.values(), *(p.grad for p in objective.parameters() if p.grad is not None)])
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*results, strict=True))
