"""Switches of the network that change its cost and not its result: activation checkpointing and compilation."""

from torch import nn

from blip.config import Training
from blip.model.compilation import compile_layers
from blip.model.text import TextTransformer
from blip.model.vision import VisionTransformer


def apply_switches(objective: nn.Module, training: Training) -> None:
    """Set them in the image encoder and in both text stacks; the momentum twin has no gradient and nothing to save."""
    for module in objective.modules():
        if isinstance(module, VisionTransformer | TextTransformer):
            module.activation_checkpointing = training.activation_checkpointing
    if training.compile:
        compile_layers(objective)
