"""Options beyond the paper, each against a slow form: sigmoid ITC, patch dropout, several captions per image."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blip.model.batch import PairBatch
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.model.vision import VisionConfig, VisionTransformer, drop_patches
from tests import tiny

TOKENS = tiny.tokenizer()
SPECIAL = TOKENS.special_tokens
TEXTS = ["red apple", "dog", "the dog on the table", "green x", "table"]


def objective(network: BlipNetwork | None = None, **settings: Any) -> PairObjective:
    torch.manual_seed(0)
    return PairObjective(
        network or tiny.network(width=32), ObjectiveConfig(**{"queue": 8} | settings), SPECIAL
    ).train()


def batch(groups: list[tuple[int, int]]) -> PairBatch:
    ids, mask = TOKENS.encode(TEXTS[: len(groups)], 12)
    return PairBatch(tiny.images(len(groups)), ids, mask, torch.tensor(groups))


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


def test_sigmoid_itc_asks_every_pair_of_image_and_text_by_itself() -> None:
    groups = [(1, 1), (2, 2), (1, 3), (4, 2)]
    made, given = objective(contrast="sigmoid", sigmoid_bias=-3.0, itm=0.0, lm=0.0), batch(groups)
    network, slow = made.network, torch.zeros(())
    bias = torch.tensor(-3.0, requires_grad=True)
    tokens = network.vision(given.images)
    for i, one in enumerate(groups):
        for j, other in enumerate(groups):
            image = network.embed_image(tokens[i : i + 1])[0]
            text = network.embed_text(given.ids[j : j + 1], given.mask[j : j + 1])[0]
            sign = 1 if one[0] == other[0] or one[1] == other[1] else -1
            logit = sign * (image @ text / network.temperature + bias)
            slow = slow + (1 + (-logit).exp()).log().squeeze() / len(groups)
    slow.backward()
    expected = {name: gradient.clone() for name, gradient in gradients(network).items()}
    network.zero_grad()
    loss = made(given)["itc"]
    loss.backward()
    assert loss.item() == pytest.approx(slow.item(), abs=1e-5)
    assert made.sigmoid_bias is not None and made.sigmoid_bias.grad is not None and bias.grad is not None
    assert made.sigmoid_bias.grad.item() == pytest.approx(bias.grad.item(), abs=1e-4)
    assert expected.keys() == gradients(network).keys()
    assert all((g - expected[n]).abs().max() <= 1e-4 for n, g in gradients(network).items())


def test_sigmoid_itc_has_neither_twin_nor_queue_and_starts_at_its_bias() -> None:
    made = objective(contrast="sigmoid")
    assert (made.twin, made.queue) == (None, None)
    assert made.sigmoid_bias is not None and made.sigmoid_bias.item() == -10
    flat = objective(contrast="sigmoid", sigmoid_bias=0.0)
    with torch.no_grad():
        for part in (flat.network.vision_projection.weight, flat.network.vision_projection.bias):
            part.zero_()
    losses = flat(batch([(n, n) for n in range(4)]))
    assert losses["itc"].item() == pytest.approx(4 * math.log(2), abs=1e-5)
    assert losses["itm"].isfinite()


def test_the_published_contrast_has_no_bias() -> None:
    assert objective().sigmoid_bias is None
    assert not [name for name in objective().state_dict() if "bias" in name and "sigmoid" in name]


def tower(share: float) -> VisionTransformer:
    torch.manual_seed(1)
    return VisionTransformer(
        VisionConfig(image_size=32, patch_size=8, width=16, layers=2, heads=2, patch_dropout=share)
    )


def test_dropped_patches_are_as_if_they_had_never_been_cut_out() -> None:
    made, images = tower(0.75).train(), tiny.images(3)
    torch.manual_seed(4)
    tokens = made(images)
    torch.manual_seed(4)
    noise = torch.rand(3, 16)  # the four patches of an image with the greatest numbers stay
    assert tokens.shape == (3, 5, 16)
    for row in range(3):
        places = sorted(range(16), key=lambda place, row=row: -noise[row, place].item())[:4]
        kept = [made.class_embedding[0, 0] + made.position_embedding[0, 0]]
        for place in places:
            y, x = 8 * (place // 4), 8 * (place % 4)
            patch = made.patch_embedding(images[row : row + 1, :, y : y + 8, x : x + 8]).flatten()
            kept.append(patch + made.position_embedding[0, 1 + place])
        slow = torch.stack(kept)[None]
        for block in made.blocks:
            slow = block(slow)
        assert torch.allclose(tokens[row : row + 1], made.norm(slow), atol=1e-5)


def test_each_patch_stays_as_often_as_any_and_cls_always() -> None:
    torch.manual_seed(0)
    numbered = torch.arange(11.0).expand(2000, -1)[:, :, None]
    kept = drop_patches(numbered, 0.7)[:, :, 0]
    assert kept.shape == (2000, 4)
    assert not kept[:, 0].any()
    counts = torch.bincount(kept.flatten().long(), minlength=11)[1:] / 2000
    assert counts.tolist() == pytest.approx([0.3] * 10, abs=0.04)
    assert all(len(set(row)) == 4 for row in kept.tolist()), "no patch twice"
    assert drop_patches(numbered[:1], 0.99).shape == (1, 2, 1), "one stays"


def test_evaluation_locked_towers_and_the_twin_see_all_patches() -> None:
    images = tiny.images(2)
    whole = tower(0.0)(images)
    assert torch.equal(tower(0.5).eval()(images), whole)
    assert torch.equal(tower(0.5).train().requires_grad_(False)(images), whole)
    with torch.no_grad():
        assert torch.equal(tower(0.5).train()(images), whole)
    config = tiny.network(width=32).config
    network = BlipNetwork(
        BlipConfig(replace(config.vision, patch_dropout=0.5), config.text, projection=config.projection)
    )
    made = objective(network)
    seen: list[tuple[str, int]] = []
    for name, module in (("network", made.network.vision), ("twin", made.twin.parts["vision"])):  # type: ignore[union-attr]
        module.blocks[0].register_forward_hook(
            lambda _, __, out, name=name: seen.append((name, out.shape[1]))
        )
    losses = made(batch([(n, n) for n in range(3)]))
    assert seen == [("network", 9), ("twin", 17)]
    losses["loss"].backward()
    assert network.vision.patch_embedding.weight.grad is not None


def test_a_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"patch_dropout 1\.0 is no share"):
        VisionConfig(patch_dropout=1.0)


@pytest.mark.parametrize(
    "settings", [{}, {"negative_floor": 0.0, "random_negatives": 0.3}, {"contrast": "sigmoid"}]
)
def test_several_captions_give_the_losses_of_the_image_repeated(settings: dict[str, Any]) -> None:
    image = torch.tensor([0, 0, 1, 2, 2])
    groups = torch.stack((image, torch.tensor([10, 11, 12, 10, 14])), dim=1)
    ids, mask = TOKENS.encode(TEXTS, 12)
    pictures = tiny.images(3)
    shared = PairBatch(pictures, ids, mask, groups, prompt_tokens=2, image=image)
    repeated = PairBatch(pictures[image], ids, mask, groups, prompt_tokens=2)
    made = [objective(**settings), objective(**settings)]
    encoded: list[int] = []
    made[0].network.vision.register_forward_hook(lambda _, __, out: encoded.append(len(out)))
    for step in range(2):
        results = []
        for one, given in zip(made, (shared, repeated), strict=True):
            one.zero_grad()
            torch.manual_seed(step)
            results.append(one(given))
            results[-1]["loss"].backward()
        for name, loss in results[1].items():
            assert results[0][name].item() == pytest.approx(loss.item(), abs=1e-5), name
        expected = gradients(made[1])
        for name, gradient in gradients(made[0]).items():
            assert (gradient - expected[name]).abs().max() <= 1e-4, name
    assert encoded == [3, 3], "each image once"
    queues = [one.queue for one in made if one.queue is not None]
    if queues:
        assert torch.equal(queues[0].group, queues[1].group)
        assert torch.allclose(queues[0].image, queues[1].image, atol=1e-6)


def test_captions_of_one_image_are_no_negatives_of_each_other() -> None:
    ids, mask = TOKENS.encode(TEXTS[:3], 12)
    image = torch.tensor([0, 0, 0])
    groups = torch.tensor([[5, 1], [5, 2], [5, 3]])
    made = objective(itc=0.0, lm=0.0)
    given = PairBatch(tiny.images(1), ids, mask, groups, image=image)
    with_encode = ids.clone()
    with_encode[:, 0] = TOKENS.enc
    context = made.network.text_encoder.project_context(made.network.vision(given.images[image]))
    logits = made.network.match(with_encode, mask, context)
    expected = nn.functional.cross_entropy(logits, torch.ones(3, dtype=torch.int64))
    assert made(given)["itm"].item() == pytest.approx(expected.item(), abs=1e-5)


@torch.no_grad()
def test_negatives_are_like_the_twins_keys_or_like_the_networks_own_features() -> None:
    made = objective()
    for projection in (
        made.network.vision_projection,
        made.network.text_projection,
    ):  # behind which the twin is
        projection.weight.add_(torch.randn_like(projection.weight) * 0.1)
    pairs, temperature = batch([(n, n) for n in range(4)]), made.network.temperature
    features = made._features(pairs, made.network.vision(pairs.images), None)
    assert features.keys is not None
    image, text = features.image, features.text
    by_keys = made._similarity(features, temperature)
    torch.testing.assert_close(by_keys[0], image @ features.keys[1].T / temperature)
    made.config = replace(made.config, negatives_by="features")
    by_features = made._similarity(features, temperature)
    torch.testing.assert_close(by_features[0], image @ text.T / temperature)
    torch.testing.assert_close(by_features[1], text @ image.T / temperature)
    assert not torch.allclose(by_keys[0], by_features[0])


def test_a_run_goes_on_from_the_temperature_that_was_learnt_or_starts_from_its_own() -> None:
    network = tiny.network(width=32)
    with torch.no_grad():
        network.temperature.fill_(0.013)
    objective(network, temperature=None)
    assert network.temperature.item() == pytest.approx(0.013)
    objective(network)
    assert network.temperature.item() == pytest.approx(0.07)


def test_a_batch_with_its_index_moves_as_one() -> None:
    ids, mask = TOKENS.encode(TEXTS[:2], 12)
    given = PairBatch(tiny.images(1), ids, mask, torch.zeros(2, 2), image=torch.tensor([0, 0]))
    moved = given.to("meta")
    assert moved.image is not None and moved.image.device.type == moved.ids.device.type == "meta"
    assert batch([(1, 1)]).to("cpu").image is None
