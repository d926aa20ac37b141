"""Texts of no image: keys that no image has in ITC, and negative texts of ITM; each loss against a slow form."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from blip.model.batch import PairBatch
from blip.model.objectives import ObjectiveConfig, PairObjective
from tests import tiny

TOKENS = tiny.tokenizer()
SPECIAL = TOKENS.special_tokens
TEXTS = ["red apple", "dog", "the dog on the table"]
OTHERS = ["green x", "table", "the x"]


def objective(**settings: Any) -> PairObjective:
    torch.manual_seed(0)
    config = ObjectiveConfig(**{"queue": 0, "alpha": 0.0, "lm": 0.0} | settings)
    return PairObjective(tiny.network(width=32), config, SPECIAL).train()


def batch(others: list[str] = OTHERS) -> PairBatch:
    ids, mask = TOKENS.encode(TEXTS + others, 12)
    count = len(TEXTS)
    plain = PairBatch(
        tiny.images(count), ids[:count], mask[:count], torch.arange(count)[:, None].expand(-1, 2)
    )
    return replace(plain, distractor_ids=ids[count:], distractor_mask=mask[count:]) if others else plain


def probability_of_own(rows: Tensor, keys: Tensor, temperature: Tensor) -> Tensor:
    return (rows @ keys.T / temperature).softmax(1).diagonal()


def test_an_image_is_told_from_the_texts_of_no_image() -> None:
    made, given = objective(itm=0.0), batch()
    assert made.twin is not None
    network = made.network
    made.twin.update(network)
    tokens = network.vision(given.images)
    image = network.embed_image(tokens)
    text, others = network.embed_text(*given.with_distractors()[:2]).split(3)
    image_keys, text_keys = made.twin.embed(given.images, tokens, given.ids, given.mask)
    i2t = probability_of_own(image, torch.cat((text_keys, others)), network.temperature)
    t2i = probability_of_own(text, image_keys, network.temperature)
    expected = -(i2t.log().mean() + t2i.log().mean()) / 2
    assert objective(itm=0.0)(given)["itc"].item() == pytest.approx(expected.item(), abs=1e-4)


def test_texts_of_no_image_learn_to_keep_away() -> None:
    made, given = objective(itm=0.0), batch(["green x", "green x", "green x"])
    green = TOKENS.encode(["green"], 12)[0][0, 1]
    made(given)["loss"].backward()
    gradient = made.network.word_embedding.grad
    assert gradient is not None and gradient[green].abs().sum() > 0, "it stands in no caption of the batch"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_negative_texts_of_itm_are_of_no_image(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    made, given = objective(distractor_share=share), batch()
    seen: list[tuple[Tensor, Tensor]] = []
    match = made._match
    monkeypatch.setattr(made, "_match", lambda *a: (seen.append((a[0], a[3])), match(*a))[1])
    made(given)
    ids, matched = seen[0]
    assert matched.tolist() == [True, False] * 3 + [False] * 3
    negatives = TOKENS.decode(ids[:6][1::2])
    assert negatives == OTHERS if share else set(negatives) <= set(TEXTS)


def test_the_sigmoid_has_them_as_keys_too() -> None:
    settings: dict[str, Any] = {"itm": 0.0, "contrast": "sigmoid", "sigmoid_bias": -3.0}
    made, given = objective(**settings), batch()
    network = made.network
    image = network.embed_image(network.vision(given.images))
    texts = network.embed_text(*given.with_distractors()[:2])
    sign = torch.cat((2 * torch.eye(3) - 1, -torch.ones(3, 3)), 1)
    expected = (1 + (-sign * (image @ texts.T / network.temperature - 3)).exp()).log().sum() / 3
    assert objective(**settings)(given)["itc"].item() == pytest.approx(expected.item(), abs=1e-4)


def test_without_them_nothing_changes() -> None:
    plain = batch([])
    torch.manual_seed(1)
    one = objective()(plain)["loss"]
    torch.manual_seed(1)
    assert torch.equal(one, objective(distractor_share=0.9)(plain)["loss"])
