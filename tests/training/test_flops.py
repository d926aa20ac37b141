"""The published work of a pair is that of the table it is quoted with, and follows the settings."""

from dataclasses import replace

import pytest

from blip.bench.inputs import random_images, random_network, random_texts
from blip.bench.measure import counted_flops
from blip.model.blip import BlipConfig
from blip.model.vision import VisionConfig
from blip.training.flops import (
    answer_flops,
    dialog_flops,
    pair_flops,
    statement_flops,
    text_flops,
    vision_flops,
)

BASE = BlipConfig()
LARGE = replace(
    BASE, vision=VisionConfig(width=1024, layers=24, heads=16), text=replace(BASE.text, context_width=1024)
)


@pytest.mark.parametrize(
    ("part", "published"),
    [
        ("vision", 105.4),
        ("momentum vision", 35.1),
        ("text", 15.4),
        ("momentum text", 5.1),
        ("itm", 106.0),
        ("lm", 39.6),
    ],
)
def test_each_part_of_a_base_pair_costs_what_is_published(part: str, published: float) -> None:
    assert pair_flops(BASE, 30)[part] / 1e9 == pytest.approx(published, rel=0.01)


def test_a_base_pair_costs_306_8_gigaflop() -> None:
    assert sum(pair_flops(BASE, 30).values()) / 1e9 == pytest.approx(306.8, rel=0.005)


def test_a_large_pair_costs_more_by_its_vision_tower() -> None:
    parts = pair_flops(LARGE, 30)
    assert parts["text"] == pair_flops(BASE, 30)["text"]
    assert parts["vision"] / pair_flops(BASE, 30)["vision"] == pytest.approx(3.52, rel=0.01)
    assert sum(parts.values()) == pytest.approx(680.9e9, rel=0.001)


def test_losses_that_are_left_out_cost_nothing() -> None:
    assert set(pair_flops(BASE, 30, itc=False, itm=False)) == {"vision", "lm"}
    assert set(pair_flops(BASE, 30, lm=False)) == {
        "vision",
        "momentum vision",
        "text",
        "momentum text",
        "itm",
    }
    assert "momentum text" not in pair_flops(BASE, 30, momentum=False)


def test_a_locked_tower_is_passed_once() -> None:
    parts = pair_flops(BASE, 30, locked_vision=True)
    assert parts["vision"] == pytest.approx(35.1e9, rel=0.01)
    assert "momentum vision" not in parts


def test_several_captions_share_the_image() -> None:
    one, three = pair_flops(BASE, 30), pair_flops(BASE, 30, captions=3)
    assert three["vision"] == one["vision"]
    assert three["itm"] == 3 * one["itm"]


def test_dropped_patches_are_not_counted_but_the_twin_sees_all() -> None:
    half = pair_flops(replace(BASE, vision=VisionConfig(patch_dropout=0.5)), 30)
    whole = pair_flops(BASE, 30)
    assert 0.48 < half["vision"] / whole["vision"] < 0.52
    assert half["momentum vision"] == whole["momentum vision"]
    assert half["itm"] < whole["itm"]


def test_questions_cost_an_encoder_and_a_decoder_each() -> None:
    one, four = answer_flops(BASE, 30), answer_flops(BASE, 30, asked=4)
    assert one["question"] == pytest.approx(35.3e9, rel=0.01)
    assert (four["vision"], four["answer"]) == (one["vision"], 4 * one["answer"])


def test_a_statement_is_read_once_with_two_cross_attentions_a_layer() -> None:
    one, three = statement_flops(BASE, 30), statement_flops(BASE, 30, asked=3)
    assert one["vision"] == 2 * answer_flops(BASE, 30)["vision"]
    assert (three["vision"], three["statements"]) == (one["vision"], 3 * one["statements"])
    single = answer_flops(BASE, 30)["question"]
    assert single < one["statements"] < 2 * single
    assert statement_flops(BASE, 30, locked_vision=True)["vision"] == pytest.approx(one["vision"] / 3)


def test_a_question_of_a_dialog_is_read_with_two_answers() -> None:
    one, three = dialog_flops(BASE, 200), dialog_flops(BASE, 200, asked=3)
    assert (one["vision"], one["caption"]) == (three["vision"], three["caption"])
    assert three["dialogs"] == 3 * one["dialogs"]
    assert one["dialogs"] > 2 * answer_flops(BASE, 200)["question"], "the caption is looked at, too"


def test_the_towers_compute_what_is_counted_here() -> None:
    """Torch counts the products of a real forward pass; ours reads no padding, so the texts have none."""
    network = random_network("tiny", 64).eval()
    images, texts = random_images(2, 64), random_texts(2)
    full = texts.mask.new_ones(texts.mask.shape)
    seen = counted_flops(lambda: network.vision(images))
    assert seen == pytest.approx(2 * vision_flops(network.config.vision), rel=0.01)
    read = counted_flops(lambda: network.text_encoder(texts.ids, full))
    assert read == pytest.approx(2 * text_flops(network.config.text, texts.ids.shape[1]), rel=0.01)
