"""The image encoder in all sizes from one configuration, and drop path by its distribution."""

import pytest
import torch
import transformers
from torch import nn

from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.text import TextConfig
from blip.model.vision import Block, VisionConfig, VisionTransformer

BASE = VisionConfig()
LARGE = VisionConfig(width=1024, layers=24, heads=16)
SMALL = VisionConfig(image_size=96, patch_size=12, width=48, layers=3, heads=3, mlp_ratio=2)


def millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def on_meta(config: BlipConfig) -> BlipNetwork:
    with torch.device("meta"):
        return BlipNetwork(config)


@pytest.mark.parametrize(
    ("config", "expected"), [(BASE, 85.8), (LARGE, 303.3), (SMALL, 0.0809)], ids=["B/16", "L/16", "small"]
)
def test_a_vision_transformer_has_the_parameters_of_its_size(config: VisionConfig, expected: float) -> None:
    with torch.device("meta"):
        ours = VisionTransformer(config)
        theirs = transformers.BlipVisionModel(
            transformers.BlipVisionConfig(
                hidden_size=config.width,
                intermediate_size=config.mlp_ratio * config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                image_size=config.image_size,
                patch_size=config.patch_size,
            )
        )
    assert millions(ours) == pytest.approx(expected, rel=0.01)
    assert millions(ours) == millions(theirs)


def test_the_base_network_has_the_parameters_of_the_paper() -> None:
    tied, untied = on_meta(BlipConfig()), on_meta(BlipConfig(tied=False))
    own = sum(millions(layer.self_attention) for layer in tied.text_decoder.layers)  # type: ignore[arg-type]
    assert round(millions(tied)) == 252
    assert round(millions(untied)) == 361
    assert round(millions(tied) - own) == 224  # were self-attention shared too


def test_a_large_image_encoder_keeps_the_base_text_transformer() -> None:
    network = on_meta(BlipConfig(LARGE, TextConfig(context_width=1024)))
    assert network.text_encoder.layers[0].cross_attention.kv.weight.shape == (2 * 768, 1024)  # type: ignore[union-attr]
    assert network.vision_projection.weight.shape == (256, 1024)
    assert network.text_projection.weight.shape == (256, 768)


@pytest.mark.parametrize(("side", "tokens"), [(224, 197), (384, 577), (480, 901)])
def test_tokens_follow_the_image_size(side: int, tokens: int) -> None:
    config = VisionConfig(image_size=side)
    with torch.device("meta"):
        vision = VisionTransformer(config)
        assert vision(torch.empty(2, 3, side, side)).shape == (2, tokens, 768)
    assert config.tokens == tokens


def test_a_small_one_reads_images_of_its_size() -> None:
    assert VisionTransformer(SMALL)(torch.zeros(1, 3, 96, 96)).shape == (1, 65, 48)


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size 225 is no multiple of patch_size 16"):
        VisionConfig(image_size=225)
    with pytest.raises(ValueError, match="vision width 768 is not a multiple of 7 heads"):
        VisionConfig(heads=7)


def test_drop_path_rises_from_nothing_to_its_rate() -> None:
    with torch.device("meta"):
        rates = [block.drop_path.item() for block in VisionTransformer(VisionConfig(drop_path=0.1)).blocks]
    assert rates[0] == 0 and rates[-1] == pytest.approx(0.1)
    steps = torch.tensor(rates).diff()  # type: ignore[arg-type]
    assert torch.allclose(steps, torch.full((11,), 0.1 / 11))


SAMPLES, RATE = 4000, 0.3


@pytest.fixture(scope="module")
def residuals() -> dict[str, torch.Tensor]:
    """What a block adds to the same two tokens, in training for many samples and in evaluation for one.

    Its second residual is a constant 1 in every place, so that both show in the sum.
    """
    torch.manual_seed(0)
    block = Block(VisionConfig(image_size=32, width=16, heads=2), RATE)
    with torch.no_grad():
        block.fc2.weight.zero_()
        block.fc2.bias.fill_(1.0)
        x = torch.randn(1, 2, 16)
        training = block.train()(x.expand(SAMPLES, -1, -1)) - x
        evaluation = block.eval()(x) - x
    return {"training": training, "evaluation": evaluation}


def kept(residuals: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every sample, whether the attention's and whether the feed-forward's residual was there."""
    attention = residuals["evaluation"][0] - 1  # [2, 16]
    combinations = [(a, f, (a * attention + f) / (1 - RATE)) for a in (False, True) for f in (False, True)]
    errors = torch.stack(
        [(residuals["training"] - value).abs().amax(dim=(1, 2)) for *_, value in combinations]
    )
    # Of a sample all tokens are kept or none, scaled up by 1 / (1 - rate)
    assert errors.amin(dim=0).max() < 1e-4
    which = errors.argmin(dim=0)
    flags = torch.tensor([[a, f] for a, f, _ in combinations])[which]
    return flags[:, 0], flags[:, 1]


def test_each_residual_is_left_out_for_a_sample_at_the_rate_of_its_block(
    residuals: dict[str, torch.Tensor],
) -> None:
    deviation = (RATE * (1 - RATE) / SAMPLES) ** 0.5
    for flags in kept(residuals):
        assert abs(flags.float().mean().item() - (1 - RATE)) < 4 * deviation


def test_the_two_residuals_of_a_block_are_left_out_independently(residuals: dict[str, torch.Tensor]) -> None:
    attention, feed_forward = kept(residuals)
    both = (attention & feed_forward).float().mean().item()
    expected = (1 - RATE) ** 2
    assert abs(both - expected) < 4 * (expected * (1 - expected) / SAMPLES) ** 0.5


def test_training_adds_on_average_what_evaluation_adds(residuals: dict[str, torch.Tensor]) -> None:
    training, evaluation = residuals["training"], residuals["evaluation"][0]
    error = (training.mean(dim=0) - evaluation).abs()
    assert (error < 4.5 * training.std(dim=0) / SAMPLES**0.5 + 1e-5).all()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_cls_alone_is_what_it_is_among_all_tokens(checkpointing: bool) -> None:
    torch.manual_seed(0)
    tower = VisionTransformer(SMALL).double()
    tower.activation_checkpointing = checkpointing
    images, gradients = torch.randn(2, 3, 96, 96, dtype=torch.float64), []
    for first_only in (False, True):
        tower.zero_grad()
        seen = tower(images, first_only)
        assert seen.shape == (2, 1 if first_only else SMALL.tokens, 48)
        seen[:, 0].square().sum().backward()
        gradients.append([seen[:, 0].detach(), *(parameter.grad for parameter in tower.parameters())])
    for whole, alone in zip(*gradients, strict=True):
        torch.testing.assert_close(alone, whole, rtol=1e-9, atol=1e-12)
