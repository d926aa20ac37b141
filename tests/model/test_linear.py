"""A packed weight gives what the weight gives, and is not used where it may not be."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blip.model.api import Blip
from blip.model.inference import pack
from blip.model.linear import Linear, PackedWeight, can_pack
from blip.model.text import LanguageModelHead
from tests import tiny

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 0.04}
TEXTS = ["red apple", "the dog on the table", "a", "green picture of x"]


def made(dtype: torch.dtype, packed: bool = True) -> Linear:
    torch.manual_seed(0)
    linear = Linear(64, 48).to(dtype)
    if not can_pack(linear.weight):
        pytest.skip(f"this processor packs no weights in {dtype}")
    if packed:
        linear.packed = PackedWeight(linear.weight, linear.bias)
    return linear


def rows() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "a matrix": torch.randn(3, 64),
        "a batch": torch.randn(2, 5, 64),
        "first positions": torch.randn(2, 5, 64)[:, :1],
        "every second column": torch.randn(2, 5, 128)[..., ::2],
        "columns": torch.randn(64, 9).t(),
        "nothing": torch.randn(0, 64),
        "no positions": torch.randn(2, 0, 64),
    }


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", rows())
def test_products_and_gelu_are_those_of_the_weight(name: str, dtype: torch.dtype) -> None:
    x, linear, plain = rows()[name].to(dtype), made(dtype), made(dtype, packed=False)
    with torch.inference_mode():
        pairs = ((linear(x), plain(x)), (linear.gelu(x), F.gelu(plain(x))))
    for found, expected in pairs:
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_a_gradient_passes_as_if_nothing_were_packed() -> None:
    x, linear, plain = torch.randn(3, 64), made(torch.float32), made(torch.float32, packed=False)
    gradients = [
        torch.autograd.grad(one.gelu(one(x)[:, :1].expand(3, 64)).sum(), one.weight)[0]
        for one in (linear, plain)
    ]
    assert torch.equal(*gradients)


def test_a_weight_that_was_changed_in_place_is_read_as_it_is() -> None:
    x, linear = torch.randn(3, 64), made(torch.float32)
    with torch.no_grad():
        linear.weight.mul_(2)
        assert torch.equal(linear(x), F.linear(x, linear.weight, linear.bias))
        linear.load_state_dict(Linear(64, 48).state_dict())
        assert torch.equal(linear(x), F.linear(x, linear.weight, linear.bias))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_opened_model_is_packed_and_says_the_same(dtype: str, tmp_path: Path) -> None:
    made(getattr(torch, dtype))
    model, plain = (
        Blip.open(tiny.save(tmp_path / "model", 3), dtype=dtype),
        Blip(tiny.network(3), tiny.tokenizer(), dtype=dtype),
    )
    parts = [part for part in model.network.modules() if isinstance(part, Linear | LanguageModelHead)]
    assert len(parts) > 20 and all(part.packed for part in parts)
    images, tolerance = tiny.images(5), 1e-5 if dtype == "float32" else 0.05
    for found, expected in (
        (model.embed_images(images), plain.embed_images(images)),
        (model.embed_texts(TEXTS), plain.embed_texts(TEXTS)),
        (model.match(images, TEXTS), plain.match(images, TEXTS)),
        (
            model.likelihood(model.encode_images(images), torch.tensor([0, 1, 2, 2]), TEXTS),
            plain.likelihood(plain.encode_images(images), torch.tensor([0, 1, 2, 2]), TEXTS),
        ),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    if dtype == "float32":
        for decoding in ("greedy", "beam", "nucleus"):
            assert model.caption(images, decoding) == plain.caption(images, decoding)


def test_a_copy_is_packed_with_its_own_weights() -> None:
    x, linear = torch.randn(3, 64), made(torch.float32)
    copied = copy.deepcopy(linear)
    assert copied.packed is not None and copied.packed._weight is copied.weight
    with torch.no_grad():
        before = linear(x)
        assert torch.equal(copied(x), before)
        copied.weight.zero_()
        assert torch.equal(copied(x), copied.bias.expand(3, -1))
        assert torch.equal(linear(x), before)


def test_what_is_to_learn_and_what_is_saved_are_not_packed(tmp_path: Path) -> None:
    directory = tiny.save(tmp_path / "model", 3)
    learner = Blip.open(directory, learns=True).network
    assert not any(part.packed for part in learner.modules() if isinstance(part, Linear | LanguageModelHead))
    assert set(Blip.open(directory).network.state_dict()) == set(learner.state_dict())


def test_packing_again_takes_the_weights_as_they_are(tmp_path: Path) -> None:
    network, images = tiny.network(), tiny.images(2)
    pack(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.5)
        plain = network.vision(images)
        pack(network)
        torch.testing.assert_close(network.vision(images), plain, rtol=0, atol=1e-5)
