"""What the objective does where batches, texts, queues and number types are not the usual ones."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from blip.model.batch import PairBatch
from blip.model.losses import hard_negatives, lm_loss
from blip.model.momentum import TWINNED, FeatureQueue, MomentumTwin
from blip.model.objectives import ObjectiveConfig, PairObjective
from tests import tiny

TOKENS = tiny.tokenizer()
SPECIAL = TOKENS.special_tokens
TEXTS = ["red apple", "dog", "the table", "green x"]


def objective(**settings: Any) -> PairObjective:
    return PairObjective(tiny.network(width=32), ObjectiveConfig(**{"queue": 8} | settings), SPECIAL).train()


def batch(texts: list[str], groups: list[int] | None = None, limit: int = 12, prompt: int = 0) -> PairBatch:
    ids, mask = TOKENS.encode(texts, limit)
    group = torch.tensor(groups or range(len(texts)))[:, None].expand(-1, 2)
    return PairBatch(tiny.images(len(texts)), ids, mask, group, prompt)


def all_matched(made: PairObjective, given: PairBatch) -> float:
    """The ITM loss when every pair of the batch is shown to it as matched, which each is three times."""
    network = made.network
    ids = given.ids.clone()
    ids[:, 0] = TOKENS.enc
    context = network.text_encoder.project_context(network.vision(given.images))
    logits = network.match(ids, given.mask, context)
    return torch.nn.functional.cross_entropy(logits, torch.ones(len(ids), dtype=torch.int64)).item()


@pytest.mark.parametrize("groups", [[7, 7, 7, 7], [7]])
def test_a_batch_of_one_image_or_one_sample_is_all_matched(groups: list[int]) -> None:
    made, given = objective(queue=0), batch(TEXTS[: len(groups)], groups)
    expected = all_matched(made, given)
    losses = made(given)
    assert losses["itm"].item() == pytest.approx(expected, abs=1e-5)
    losses["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())


def test_without_other_keys_itc_is_nothing_for_one_pair_and_the_spread_over_the_group_for_several() -> None:
    assert objective(queue=0)(batch(TEXTS[:1]))["itc"].item() == pytest.approx(0, abs=1e-6)
    flat = objective(queue=0, alpha=0.0)
    assert flat.twin is not None
    with torch.no_grad():
        for part in (flat.network, flat.twin.parts):
            for head in (part.vision_projection, part.text_projection):
                head.weight.zero_()
    assert flat(batch(TEXTS, [7, 7, 7, 7]))["itc"].item() == pytest.approx(math.log(4), abs=1e-5)


@pytest.mark.parametrize("floor", [0.0, 1e-4])
def test_only_a_row_without_negatives_gets_itself(floor: float) -> None:
    same = torch.eye(3, dtype=torch.bool)
    same[0] = True
    torch.manual_seed(0)
    draws = torch.stack([hard_negatives(torch.zeros(3, 3), same, floor) for _ in range(50)])
    assert set(draws[:, 0].tolist()) == {0}
    assert (set(draws[:, 1].tolist()), set(draws[:, 2].tolist())) == ({0, 2}, {0, 1})


def test_the_draw_has_the_numbers_of_multinomial() -> None:
    similarity = torch.randn(32, 32, generator=torch.Generator().manual_seed(0)) * 4
    same = torch.eye(32, dtype=torch.bool)
    torch.manual_seed(5)
    drawn = hard_negatives(similarity, same)
    torch.manual_seed(5)
    weights = (similarity.softmax(1) + 1e-4).masked_fill(same, 0)
    assert torch.equal(drawn, torch.multinomial(weights, 1).squeeze(1))


def test_without_a_floor_the_draw_is_the_softmax_over_the_negatives() -> None:
    """However sure the row is of its own pair: beside it the others would round to nothing."""
    similarity = torch.tensor([[1000.0, math.log(3.0), 0.0, 0.0]]).expand(4, -1)
    same = torch.eye(4, dtype=torch.bool)
    same[0, 3] = True
    torch.manual_seed(0)
    draws = torch.stack([hard_negatives(similarity, same, floor=0.0)[0] for _ in range(4000)])
    counts = torch.bincount(draws, minlength=4) / 4000
    assert counts.tolist() == pytest.approx([0, 0.75, 0.25, 0], abs=0.03)


def test_with_the_floor_a_negative_that_looks_impossible_is_drawn_at_times() -> None:
    similarity = torch.tensor([[0.0, 50.0, -50.0]]).expand(3, -1)
    same = torch.tensor([[True, False, False]]).expand(3, -1)
    torch.manual_seed(0)
    often = torch.stack([hard_negatives(similarity, same, floor=0.1)[0] for _ in range(3000)])
    assert (often == 2).float().mean().item() == pytest.approx(0.1 / 1.2, abs=0.02)
    never = torch.stack([hard_negatives(similarity, same, floor=0.0)[0] for _ in range(3000)])
    assert not (never == 2).any()


def test_an_empty_caption_is_learnt_as_the_end_alone() -> None:
    given = batch(["", "red"])
    assert given.ids[0, :2].tolist() == [TOKENS.cls, TOKENS.sep]
    assert given.mask[0].sum() == 2
    made = objective(itc=0.0, itm=0.0)
    alone = made(PairBatch(given.images[:1], given.ids[:1, :2], given.mask[:1, :2], given.group[:1]))
    context = made.network.text_decoder.project_context(made.network.vision(given.images[:1]))
    states = made.network.text_decoder(torch.tensor([[TOKENS.bos]]), None, context, causal=True)
    logits = made.network.lm_head(states[0], made.network.word_embedding)
    assert alone["lm"].item() == pytest.approx(lm_loss(logits, given.ids[0, 1:2], 0.1).item(), abs=1e-5)


def test_a_caption_beyond_the_limit_is_its_beginning_with_the_end_last() -> None:
    long = "red apple on the table of the dog in the picture"
    given, cut = batch([long], limit=6), batch(["red apple on the"], limit=6)
    assert given.mask.sum() == 6
    assert given.ids[0, -1] == TOKENS.sep
    assert torch.equal(given.ids, cut.ids)
    assert objective(queue=0)(given)["lm"].item() == objective(queue=0)(cut)["lm"].item()


def test_captions_that_are_prompt_and_no_more_teach_nothing() -> None:
    made = objective(itc=0.0, itm=0.0)
    loss = made(batch(["red apple", "dog"], prompt=4))["loss"]
    assert loss.item() == 0
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in made.parameters())


def test_a_batch_larger_than_the_queue_leaves_its_last_pairs_there() -> None:
    made = objective(queue=3)
    losses = made(batch(TEXTS, [10, 11, 12, 13]))
    assert losses["loss"].isfinite()
    assert made.queue is not None
    assert sorted(made.queue.group[:, 0].tolist()) == [11, 12, 13]


def test_a_queue_of_nothing_stays_so() -> None:
    queue = FeatureQueue(0, 4)
    queue.push(torch.ones(2, 4), torch.ones(2, 4), torch.ones(2, 2, dtype=torch.int64))
    assert queue.image.shape == (0, 4)
    assert queue.position == 0


def test_evaluation_moves_neither_twin_nor_queue_nor_temperature() -> None:
    made = objective().eval()
    with torch.no_grad():
        made.network.temperature.fill_(0.9)
        for weight in made.network.parameters():
            weight.add_(0.01)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made(batch(TEXTS))
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


@pytest.mark.parametrize(("given", "read"), [(0.9, 0.5), (1e-5, 0.001), (0.07, 0.07)])
def test_the_temperature_is_clamped_before_a_forward_and_learns_on(given: float, read: float) -> None:
    made = objective(lm=0.0)
    with torch.no_grad():
        made.network.temperature.fill_(given)
    made(batch(TEXTS))["itc"].backward()
    assert made.network.temperature.item() == pytest.approx(read)
    assert made.network.temperature.grad is not None
    assert made.network.temperature.grad.abs().item() > 0


def averages(network: torch.nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().double() for n, p in network.named_parameters() if n.split(".")[0] in TWINNED}


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_the_average_is_float32_whatever_is_computed_in(weights: torch.dtype) -> None:
    """Under bfloat16 autocast, and beside bfloat16 weights, it is that of an average in float64."""
    torch.manual_seed(0)
    made = PairObjective(tiny.network(width=32).to(weights), ObjectiveConfig(queue=8), SPECIAL).train()
    assert made.twin is not None
    expected = averages(made.network)
    given = batch(TEXTS)
    for _ in range(5):
        with torch.no_grad():
            for weight in made.network.parameters():
                weight.add_(torch.randn_like(weight) * 0.01)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = made(given)
        assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
        expected = {n: 0.995 * expected[n] + 0.005 * now for n, now in averages(made.network).items()}
    for name, average in made.twin.parts.named_buffers():
        assert average.dtype == torch.float32
        assert torch.allclose(average.double(), expected[name], atol=1e-6), name


def test_the_average_of_bfloat16_weights_goes_where_they_are() -> None:
    network = tiny.network(width=32).bfloat16()
    twin = MomentumTwin(network, 0.995)
    start = network.vision.norm.weight.detach().float().clone()
    with torch.no_grad():
        network.vision.norm.weight.add_(0.125)
    for _ in range(400):
        twin.update(network)
    moved = (twin.parts["vision"].norm.weight - start) / (network.vision.norm.weight.float() - start)
    assert moved.min().item() == pytest.approx(1 - 0.995**400, abs=1e-4)
