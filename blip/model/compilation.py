"""Compilation of a network's blocks and layers, which changes its cost and its results by rounding only."""

import os

import torch
from torch import nn

from blip.model.losses import LanguageModelLoss
from blip.model.text import TextTransformer
from blip.model.vision import VisionTransformer

GRAPHS = 64  # of one layer's code; by its own limit of 8 torch would leave the last modes of a text layer as they are
DISABLE, OURS = "TORCHDYNAMO_DISABLE", "BLIP_SWITCHED_OFF"


def switch_off() -> None:
    """Have torch compile nothing until `compile_layers` is called, or a user's setting says so.

    Here, and in processes that this one starts: that it was not the user who said so is in the environment, too.
    """
    if DISABLE not in os.environ:
        os.environ |= {DISABLE: "1", OURS: "1"}


def _switch_on() -> None:
    if os.environ.pop(OURS, ""):
        del os.environ[DISABLE]
        torch._dynamo.config.disable = False  # it may have been read already


def compile_layers(network: nn.Module) -> None:
    """Compile every block of the image encoder, every layer of the text stacks and LM's loss, when first used.

    A text layer is compiled for any number of tokens, of which no two batches have the same, and once for each thing
    that it does: alone, with an image, before it, for one token, behind others, with and without a gradient.
    """
    _switch_on()
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
    for part in network.modules():
        if isinstance(part, VisionTransformer):
            for block in part.blocks:
                block.compile()
        if isinstance(part, TextTransformer):
            for layer in part.layers:
                layer.compile(dynamic=True)
        if isinstance(part, LanguageModelLoss):
            part.compile(dynamic=True)
