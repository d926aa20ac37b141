"""A network whose matrices are cast once computes to the bit what autocast computes from float32 weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from blip.model.api import Blip
from blip.model.inference import keep_in
from blip.model.nlvr import NlvrConfig, NlvrNetwork
from blip.model.precision import autocast
from blip.model.vqa import untie
from tests import tiny

TEXTS = ["red apple", "the dog on the table", "a", "green picture of x"]
BFLOAT16 = torch.bfloat16


def cast_in_every_call(untied: bool = False) -> Blip:
    network = tiny.network()
    model = Blip(untie(network) if untied else network, tiny.tokenizer())
    model.dtype = BFLOAT16
    return model


def cast_once(untied: bool = False) -> Blip:
    network = tiny.network()
    return Blip(untie(network) if untied else network, tiny.tokenizer(), dtype="bfloat16")


USES: dict[str, Callable[[Blip], Any]] = {
    "image tokens": lambda model: model.encode_images(tiny.images(3)),
    "image embeddings": lambda model: model.embed_images(tiny.images(3)),
    "text embeddings": lambda model: model.embed_texts(TEXTS),
    "matches": lambda model: model.match(tiny.images(3), TEXTS),
    "cosines": lambda model: model.match(tiny.images(3), TEXTS, head="itc"),
    "likelihoods": lambda model: model.likelihood(
        model.encode_images(tiny.images(2)), torch.tensor([0, 1, 1, 0]), TEXTS
    ),
    "one token decoded at a time": lambda model: model.caption(tiny.images(3), "greedy", max_length=6),
    "keys and values decoded at a time": lambda model: model.caption(tiny.images(3), "greedy", max_length=20),
    "beams": lambda model: model.caption(tiny.images(3), "beam"),
    "samples": lambda model: model.caption(tiny.images(3), "nucleus"),
    "written answers": lambda model: model.answer(tiny.images(2), ["a dog?", "red?"]),
    "ranked answers": lambda model: model.answer(tiny.images(2), ["a dog?", "red?"], TEXTS),
}


@pytest.mark.parametrize("untied", [False, True])
@pytest.mark.parametrize("use", USES)
def test_what_is_cast_once_computes_the_same(use: str, untied: bool) -> None:
    expected, found = (USES[use](made(untied)) for made in (cast_in_every_call, cast_once))
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


def test_two_images_are_judged_the_same() -> None:
    torch.manual_seed(0)
    base = tiny.network().config
    network = NlvrNetwork(NlvrConfig(base.vision, base.text, merged_from=1)).eval()
    ids, mask = tiny.tokenizer().encode(TEXTS, 12)
    pictures = tiny.images(4)

    def judge() -> torch.Tensor:
        with torch.inference_mode(), autocast("cpu", BFLOAT16):
            return network(pictures, pictures.flip(0), ids, mask)

    expected = judge()
    keep_in(network, BFLOAT16)
    assert torch.equal(judge(), expected)


def test_explanations_are_nearly_those_in_float32() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found, expected = (model.explain(image, "red apple") for model in (cast_once(), tiny.blip()))
    assert found.words == expected.words
    assert abs(found.maps - expected.maps).mean() < 0.02
    assert found.probability == pytest.approx(expected.probability, abs=0.02)


def test_matrices_take_half_the_memory_and_norms_stay_precise() -> None:
    network = tiny.network()
    keep_in(network, BFLOAT16)
    types = {name: parameter.dtype for name, parameter in network.named_parameters()}
    assert types["vision.blocks.0.fc1.weight"] is BFLOAT16
    assert types["vision.patch_embedding.weight"] is BFLOAT16
    assert types["text_decoder.layers.1.self_attention.qkv.bias"] is BFLOAT16
    precise = {name for name, dtype in types.items() if dtype is torch.float32}
    assert precise == {name for name in types if "norm" in name} | {
        "vision.class_embedding", "vision.position_embedding", "text_encoder.embeddings.word.weight",
        "text_encoder.embeddings.position.weight", "temperature", "lm_head.bias",
    }  # fmt: skip


def test_words_that_are_kept_with_rows_behind_them_have_no_logits_more() -> None:
    network = tiny.network()
    words, head = network.word_embedding.detach().to(BFLOAT16), network.lm_head
    states = torch.randn(3, words.shape[1])
    with torch.inference_mode(), autocast("cpu", BFLOAT16):
        expected = head(states, words)
        keep_in(network, BFLOAT16)
        assert head.kept is not None and len(head.kept) % 8 == 0 and len(head.kept) > len(words)
        assert torch.equal(head(states, network.word_embedding), expected)


def test_float32_is_left_as_it_is() -> None:
    network = tiny.network()
    keep_in(network, torch.float32)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert network.lm_head.kept is None


def test_what_is_cast_once_is_no_part_of_a_saved_model() -> None:
    names = set(tiny.network().state_dict())
    assert set(cast_once().network.state_dict()) == names
