"""The losses against slow forms written from their definitions."""

import math
from dataclasses import replace

import pytest
import torch

from blip.model import decoder_loss, text
from blip.model.batch import PairBatch
from blip.model.losses import hard_negatives, hard_targets, itc_loss, lm_loss, same_group, soft_targets
from blip.model.momentum import FeatureQueue, MomentumTwin
from blip.model.objectives import ObjectiveConfig, PairObjective
from tests import tiny


def unit(rows: int, seed: int) -> torch.Tensor:
    features = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return features / features.norm(dim=1, keepdim=True)


def test_itc_is_the_mean_of_two_cross_entropies_over_batch_and_queue() -> None:
    image, text, image_keys, text_keys = unit(3, 0), unit(3, 1), unit(7, 2), unit(7, 3)
    targets = torch.eye(3, 7)
    loss = itc_loss(image, text, image_keys, text_keys, (targets, targets), torch.tensor(0.1))
    slow = 0.0
    for queries, keys in ((image, text_keys), (text, image_keys)):
        for row in range(3):
            logits = [float(queries[row] @ key) / 0.1 for key in keys]
            slow += (math.log(sum(map(math.exp, logits))) - logits[row]) / 3 / 2
    assert loss.item() == pytest.approx(slow, abs=1e-5)


def test_pairs_of_one_image_or_one_text_share_the_hard_target() -> None:
    group = torch.tensor([[5, 50], [6, 60], [5, 70]])
    keys = torch.cat((group, torch.tensor([[9, 60], [-1, -1]])))
    targets = hard_targets(same_group(group, keys))
    assert torch.allclose(targets[0], torch.tensor([0.5, 0, 0.5, 0, 0]))
    assert torch.allclose(targets[1], torch.tensor([0, 0.5, 0, 0.5, 0]))


def test_soft_targets_are_a_mixture() -> None:
    hard, logits = torch.eye(2), torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    mixed = soft_targets(hard, logits, 0.4)
    assert torch.allclose(mixed, 0.4 * logits.softmax(1) + 0.6 * hard)
    assert torch.allclose(mixed.sum(1), torch.ones(2))


def test_negatives_follow_similarity_and_are_never_of_the_same_group() -> None:
    torch.manual_seed(0)
    similarity = torch.tensor([[9.0, 2.0, 1.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
    same = torch.eye(3, dtype=torch.bool)
    draws = torch.stack([hard_negatives(similarity, same) for _ in range(4000)])
    assert not (draws == torch.arange(3)).any()
    weights = similarity.softmax(1)[0] + 1e-4
    expected = (weights[1] / (weights[1] + weights[2])).item()
    assert (draws[:, 0] == 1).float().mean().item() == pytest.approx(expected, abs=0.03)


def test_a_batch_of_one_distinct_image_has_no_negative_and_does_not_fail() -> None:
    same = torch.ones(4, 4, dtype=torch.bool)
    assert torch.equal(hard_negatives(torch.randn(4, 4), same), torch.arange(4))


def test_the_language_loss_has_the_floor_of_its_smoothing() -> None:
    entries = 30524
    target = torch.tensor([7])
    probability = torch.full((1, entries), 0.1 / entries)
    probability[0, 7] += 0.9
    assert lm_loss(probability.log(), target, 0.1).item() == pytest.approx(1.358, abs=2e-3)


def test_the_queue_wraps_around_with_any_batch_size() -> None:
    queue = FeatureQueue(5, 8)
    for start in (0, 3, 6):
        ids = torch.arange(start, start + 3)[:, None].expand(-1, 2)
        queue.push(unit(3, start), unit(3, start), ids)
    assert queue.group[:, 0].tolist() == [5, 6, 7, 8, 4]
    queue.push(unit(9, 0), unit(9, 0), torch.arange(20, 29)[:, None].expand(-1, 2))
    assert sorted(queue.group[:, 1].tolist()) == [24, 25, 26, 27, 28]


def test_the_twin_moves_in_float32() -> None:
    network = tiny.network()
    twin = MomentumTwin(network, 0.995)
    with torch.no_grad():
        network.vision.norm.weight.add_(0.1)
    start = twin.parts["vision"].norm.weight.clone()
    target = network.vision.norm.weight.detach()
    for _ in range(2000):
        twin.update(network)
    left = (target - twin.parts["vision"].norm.weight).abs().max() / (target - start).abs().max()
    assert left.item() == pytest.approx(0.995**2000, abs=5e-4)  # bfloat16 would leave 1.0


def objective(**weights: float) -> PairObjective:
    config = ObjectiveConfig(queue=16, **weights)
    return PairObjective(tiny.network(), config, tiny.tokenizer().special_tokens)


def batch(texts: list[str]) -> PairBatch:
    ids, mask = tiny.tokenizer().encode(texts, 12)
    return PairBatch(tiny.images(len(texts)), ids, mask, torch.arange(len(texts))[:, None].expand(-1, 2))


def test_the_objective_is_the_weighted_sum_and_reaches_every_weight() -> None:
    torch.manual_seed(0)
    made = objective(itm=2.0).train()
    losses = made(batch(["red apple", "dog", "the table", "green x"]))
    expected = losses["itc"] + 2 * losses["itm"] + losses["lm"]
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    losses["loss"].backward()
    without = [n for n, p in made.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize("prompt_tokens", [0, 3])
def test_losses_with_counts_from_the_host_are_those_without(
    monkeypatch: pytest.MonkeyPatch, prompt_tokens: int
) -> None:
    monkeypatch.setattr(text, "pays_to_pack", lambda states: True)
    given = replace(
        batch(["red apple", "dog", "the table on the picture", "green x"]), prompt_tokens=prompt_tokens
    )
    results = []
    for known in (False, True):
        for module in (text, decoder_loss):
            monkeypatch.setattr(module, "count_for", lambda x, tokens, known=known: tokens if known else None)
        torch.manual_seed(0)
        made = objective().train()
        torch.manual_seed(1)  # the negatives that are drawn
        losses = made(given.to("cpu"))
        losses["loss"].backward()
        results.append([*losses.values(), *(p.grad for p in made.parameters() if p.grad is not None)])
    counts = given.to("cpu").counts
    assert counts and counts.tokens == given.mask.sum() and counts.written == given.mask[:, :-1].sum()
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*results, strict=True))


def test_a_locked_vision_tower_gives_the_same_losses_with_less_work() -> None:
    texts = ["red apple", "dog", "the table", "green x"]
    torch.manual_seed(0)
    trained = objective().eval()
    locked_network = tiny.network()
    locked_network.load_state_dict(trained.network.state_dict())
    locked_network.vision.requires_grad_(False)
    locked = PairObjective(locked_network, trained.config, trained.tokens).eval()
    assert trained.queue is not None and locked.queue is not None and locked.twin is not None
    locked.queue.load_state_dict(trained.queue.state_dict())
    assert "vision" not in locked.twin.parts
    results: list[dict[str, torch.Tensor]] = []
    for made in (trained, locked):
        torch.manual_seed(1)  # the negatives that are drawn
        results.append(made(batch(texts)))
    for name, loss in results[0].items():
        assert results[1][name].item() == pytest.approx(loss.item(), abs=1e-6), name
    results[1]["loss"].backward()
    assert all(p.grad is None for p in locked_network.vision.parameters())
    assert locked_network.vision_projection.weight.grad is not None


@pytest.mark.parametrize("texts", [["", ""], ["word " * 80, "red"]])
def test_empty_and_overlong_captions_have_finite_losses(texts: list[str]) -> None:
    losses = objective().train()(batch(texts))
    assert all(torch.isfinite(value) for value in losses.values())


def test_the_language_loss_ignores_padding_and_prompt() -> None:
    made = objective(itc=0.0, itm=0.0).eval()
    short, padded = batch(["red apple"]), batch(["red apple", "the dog on the table of the picture"])
    alone = made(short)["lm"]
    row = PairBatch(short.images, padded.ids[:1], padded.mask[:1], short.group)
    assert made(row)["lm"].item() == pytest.approx(alone.item(), abs=1e-5)
    prompted = PairBatch(short.images, short.ids, short.mask, short.group, prompt_tokens=2)
    assert made(prompted)["lm"].item() != pytest.approx(alone.item(), abs=1e-4)
