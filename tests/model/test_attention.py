"""Whichever way attention is computed on this machine, the result and the gradients are those of its definition."""

import pytest
import torch
from torch import Tensor

from blip.model import attention as module
from blip.model.attention import attention, is_plain

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.03}


def defined(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax of scaled products, in float64."""
    scores = q.double() @ k.double().transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores + mask.double()
    return scores.softmax(-1) @ v.double()


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("masked", [None, "of each row", "of all rows", "of each query"])
@pytest.mark.parametrize("keys", [9, 100, 200, 300])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_results_and_gradients_are_those_of_the_definition(
    dtype: torch.dtype, keys: int, masked: str | None, amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AMX", amx)
    monkeypatch.setattr(module, "BLOCK", 2 * 2 * 5 * keys * 4)  # some rows at a time, and some left over
    torch.manual_seed(0)
    shapes = ((7, 2, 5, 16), (7, 2, keys, 16), (7, 2, keys, 16))
    mask = None
    if masked:
        rows = 7 if masked == "of each row" else 1
        shape = (5, keys) if masked == "of each query" else (rows, 1, 1, keys)
        mask = torch.zeros(shape).masked_fill(torch.rand(shape) < 0.3, -1e4).to(dtype)
    for training in (False, True):
        q, k, v = (torch.randn(shape).to(dtype).requires_grad_(training) for shape in shapes)
        found, expected = attention(q, k, v, mask), defined(q, k, v, mask)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=TOLERANCE[dtype])
        if training:
            random = torch.randn(found.shape, dtype=torch.float64)
            of_found, of_expected = (
                torch.autograd.grad((one.double() * random).sum(), (q, k, v)) for one in (found, expected)
            )
            for one, other in zip(of_found, of_expected, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=3 * TOLERANCE[dtype])


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows_are_attended_to_as_they_are(rows: int) -> None:
    q = torch.randn(rows, 2, 5, 16)
    assert attention(q, q, q).shape == q.shape


def test_what_learns_from_many_keys_does_not_keep_their_scores() -> None:
    assert not is_plain(577, item=4, training=True) and not is_plain(577, item=2, training=True)
    assert is_plain(37, item=4, training=True) and is_plain(37, item=2, training=True)
