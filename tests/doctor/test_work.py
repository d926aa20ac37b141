"""The work that is reckoned for a pair is what torch counts in a real step of ours."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from blip.bench.inputs import random_images
from blip.bench.measure import counted_flops
from blip.config import Training
from blip.data.text import SpecialTokens
from blip.doctor.activations import Texts
from blip.doctor.work import answer_work, dialog_work, pair_work, statement_work
from blip.model.batch import PairBatch
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.dialogs import DialogBatch, DialogObjective
from blip.model.nlvr import pre_trained
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.model.statements import StatementBatch, StatementObjective
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig
from blip.training.accumulation import losses_of_step

LENGTH, QUEUE, PAIRS = 12, 400, 2
CONFIG = BlipConfig(VisionConfig(64, 16, 128, 3, 4), TextConfig(2000, 128, 3, 4, context_width=128), 64)
ALL = (True, True, True)


def counted(
    losses: tuple[bool, bool, bool] = ALL,
    checkpointing: bool = False,
    cached: bool = False,
    config: BlipConfig = CONFIG,
    locked: bool = False,
    distractors: bool = False,
) -> float:
    """FLOP of a pair's forward and backward."""
    itc, itm, lm = map(float, losses)
    network = BlipNetwork(config)
    network.vision.requires_grad_(not locked)
    for part in (network.vision, network.text_encoder, network.text_decoder):
        part.activation_checkpointing = checkpointing
    tokens = SpecialTokens(pad=0, sep=2, decode=3, encode=4)
    objective = PairObjective(network, ObjectiveConfig(itc, itm, lm, queue=QUEUE), tokens).train()
    ids = torch.randint(10, 2000, (PAIRS, LENGTH))
    group = torch.arange(PAIRS)[:, None].expand(-1, 2)
    batch = PairBatch(random_images(PAIRS, 64), ids, torch.ones_like(ids), group)
    if distractors:
        batch = replace(batch, distractor_ids=ids.flip(0), distractor_mask=batch.mask)
    training = Training.model_validate({"accumulate": 3, "accumulate_features": cached})

    def step() -> None:
        for found in losses_of_step(objective, objective, [batch] * 3, training, nullcontext):
            found["loss"].backward()

    return counted_flops(step) / (3 * PAIRS)


@pytest.mark.parametrize("losses", [ALL, (True, False, False), (False, True, False), (False, False, True)])
def test_a_pair_costs_what_torch_counts(losses: tuple[bool, bool, bool]):
    reckoned = sum(pair_work(CONFIG, Texts(LENGTH, LENGTH), losses=losses, queue=QUEUE).values())
    assert reckoned == pytest.approx(counted(losses), rel=0.03)


def test_checkpointing_costs_another_forward_of_the_layers():
    reckoned = sum(pair_work(CONFIG, Texts(LENGTH, LENGTH), queue=QUEUE, checkpointing=True).values())
    assert reckoned == pytest.approx(counted(ALL, checkpointing=True), rel=0.03)


@pytest.mark.parametrize("locked", [False, True])
def test_text_layers_look_at_the_patches_that_dropout_leaves(locked: bool):
    half = replace(CONFIG, vision=replace(CONFIG.vision, patch_dropout=0.5))
    reckoned = pair_work(half, Texts(LENGTH, LENGTH), queue=QUEUE, locked_vision=locked)
    assert sum(reckoned.values()) == pytest.approx(counted(config=half, locked=locked), rel=0.03)


def test_a_distractor_is_one_more_text_that_is_embedded():
    alone, beside = (
        pair_work(CONFIG, Texts(LENGTH, LENGTH), queue=QUEUE, distractors=d) for d in (False, True)
    )
    more = counted(distractors=True) - counted()
    assert sum(beside.values()) - sum(alone.values()) == pytest.approx(more, rel=0.03)


def test_cached_features_cost_another_forward_of_images_and_texts():
    once, twice = (pair_work(CONFIG, Texts(LENGTH, LENGTH), queue=QUEUE, cached=c) for c in (False, True))
    more = counted(ALL, cached=True) - counted(ALL)
    assert sum(twice.values()) - sum(once.values()) == pytest.approx(more, rel=0.03)


def test_negative_images_of_other_ranks_are_projected_once_more_for_every_text():
    own, others = (pair_work(CONFIG, Texts(12, 20), captions=2, abroad=abroad) for abroad in (False, True))
    assert others["keys and values"] == 3 * own["keys and values"]
    assert sum(others.values()) - sum(own.values()) == pytest.approx(2 * own["keys and values"])
    without, without_others = (
        pair_work(CONFIG, Texts(12, 20), losses=(True, False, True), abroad=abroad)
        for abroad in (False, True)
    )
    assert without == without_others, "ITM alone has negatives"


def test_a_base_pair_costs_five_eighths_of_the_published_work():
    assert sum(pair_work(BlipConfig(), Texts(12, 20)).values()) == pytest.approx(5 / 8 * 306.8e9, rel=0.03)


def test_questions_of_an_image_share_its_keys_and_values():
    one, four = (answer_work(CONFIG, Texts(12, 20), asked=n) for n in (1, 4))
    assert four["vision"] == one["vision"]
    assert four["answer"] == 4 * one["answer"]
    assert four["keys and values"] < 3 * one["keys and values"]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_statements_about_two_images_cost_what_torch_counts(checkpointing: bool):
    network = pre_trained(BlipNetwork(CONFIG))
    for part in (network.vision, network.text_encoder):
        part.activation_checkpointing = checkpointing
    objective = StatementObjective(network).train()
    pair = torch.arange(PAIRS).repeat_interleave(2)
    ids = torch.randint(10, 2000, (len(pair), LENGTH))
    batch = StatementBatch(random_images(2 * PAIRS, 64), pair, ids, torch.ones_like(ids), pair.fmod(2))

    def step() -> None:
        objective(batch)["loss"].backward()

    texts = Texts(LENGTH, LENGTH)
    reckoned = sum(statement_work(CONFIG, texts, asked=2, checkpointing=checkpointing).values())
    assert reckoned == pytest.approx(counted_flops(step) / PAIRS, rel=0.03)


def test_dialogs_cost_what_torch_counts():
    objective = DialogObjective(BlipNetwork(CONFIG)).train()
    image = torch.arange(PAIRS).repeat_interleave(2)
    captions, dialogs = (torch.randint(10, 2000, (rows, LENGTH)) for rows in (PAIRS, len(image)))
    masks = torch.ones_like(captions), torch.ones_like(dialogs)
    batch = DialogBatch(random_images(PAIRS, 64), captions, masks[0], image, dialogs, masks[1], image.fmod(2))

    def step() -> None:
        objective(batch)["loss"].backward()

    reckoned = sum(dialog_work(CONFIG, Texts(LENGTH, LENGTH)).values())
    assert reckoned == pytest.approx(counted_flops(step) / PAIRS, rel=0.03)
