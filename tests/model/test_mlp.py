"""A linear layer of GELU that keeps less, against the plain one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from blip.model.mlp import linear_of_gelu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 12), (3, 5, 12)])
def test_result_and_gradients_are_those_of_the_plain_form(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    linear, inputs = nn.Linear(12, 7), torch.randn(shape)
    results = []
    for form in (lambda x: linear(F.gelu(x)), lambda x: linear_of_gelu(x, linear)):
        x = inputs.clone().requires_grad_()
        linear.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
            given = x.to(dtype)
            made = form(given)
        made.float().square().sum().backward()
        assert linear.weight.grad is not None and linear.bias.grad is not None
        results.append((made, x.grad, linear.weight.grad.clone(), linear.bias.grad.clone()))
        assert made.dtype is dtype
    tolerance = 1e-5 if dtype is torch.float32 else 0.1
    for plain, own in zip(*results, strict=True):
        assert torch.allclose(plain.float(), own.float(), atol=tolerance, rtol=tolerance)


def test_gelu_s_result_is_not_kept() -> None:
    linear, x = nn.Linear(12, 7), torch.randn(5, 12, requires_grad=True)
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        linear_of_gelu(x, linear)
    assert kept.count(x.shape) == 1


def test_a_locked_layer_passes_the_gradient_on() -> None:
    linear, x = nn.Linear(12, 7).requires_grad_(False), torch.randn(5, 12, requires_grad=True)
    linear_of_gelu(x, linear).sum().backward()
    assert x.grad is not None and linear.weight.grad is None
