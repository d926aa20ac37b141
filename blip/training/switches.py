"""Switches of the network that change its cost and not its result: activation checkpointing and compilation."""

import torch
from torch import nn

from blip.config import Training
from blip.model.text import TextTransformer
from blip.model.vision import VisionTransformer

GRAPHS = 64  # of one layer's code; by its own limit of 8 torch would leave the last modes of a text layer as they are


def apply_switches(objective: nn.Module, training: Training) -> None:
    """Set them in the image encoder and in both text stacks; the momentum twin has no gradient and nothing to save.

    A text layer is compiled for any number of tokens, of which no two batches have the same, and once for each thing
    that it does: alone, with an image, before it, for one token, with and without a gradient.
    """
    if training.compile:
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
    for module in objective.modules():
        if isinstance(module, VisionTransformer | TextTransformer):
            module.activation_checkpointing = training.activation_checkpointing
        if not training.compile:
            continue
        if isinstance(module, VisionTransformer):
            for block in module.blocks:
                block.compile()
        if isinstance(module, TextTransformer):
            for layer in module.layers:
                layer.compile(dynamic=True)
