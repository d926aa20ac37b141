"""A network for fine-tuning: other pixels, other rates, the same weights."""

import torch

from blip.model.adapt import adapted
from blip.model.parts import still_missing
from tests import tiny


def test_another_resolution_interpolates_positions_and_keeps_every_other_weight() -> None:
    network = tiny.network()
    larger = adapted(network, image_size=48, drop_path=0.0, patch_dropout=0.0, dropout=0.0)
    images = tiny.images(2, size=48)
    assert torch.equal(larger.vision(images), network.vision(images))
    before, after = network.state_dict(), larger.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == [
        "vision.position_embedding"
    ]
    assert after["vision.position_embedding"].shape == (1, 37, 64)
    assert larger.config.vision.image_size == 48


def test_rates_change_no_weight() -> None:
    network = tiny.network()
    made = adapted(network, image_size=32, drop_path=0.1, patch_dropout=0.5, dropout=0.2)
    assert made.vision.blocks[-1].drop_path.item() == torch.tensor(0.1).item()
    assert made.text_encoder.layers[0].feed_forward.output.dropout.p == 0.2
    assert made.text_encoder.embeddings is made.text_decoder.embeddings
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in network.state_dict().items())


def test_a_network_that_is_like_that_already_is_given_back() -> None:
    network = tiny.network()
    assert adapted(network, image_size=32, drop_path=0.0, patch_dropout=0.0, dropout=0.0) is network


def test_a_part_that_was_missing_and_is_not_trained_stays_missing() -> None:
    missing = ("text_encoder", "itm_head", "vision_projection")  # a captioner's
    assert still_missing(missing, ["lm"]) == missing
    assert still_missing(missing, ["itm"]) == ("vision_projection",)
    assert still_missing(missing, ["itc", "itm", "lm"]) == ()
    assert still_missing(("text_decoder", "itm_head"), ["answers"]) == ("itm_head",)
