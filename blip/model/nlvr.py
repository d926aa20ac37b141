"""NLVR2: is a sentence true of two images? The network of the public ``model_base_nlvr.pth``.

    network, card = load_nlvr(Path("models/nlvr"))
    network(left, right, ids, mask).softmax(-1)[:, 1]       # probability of "true"; ids begin with [ENC]

BLIP paper, section 5.4: each layer of the text encoder has a cross-attention for each image. The first six layers
average what the two found, the others merge it by a linear layer; a two-layer head reads position 0.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blip.atomic import atomic_path
from blip.data.text import Tokenizer
from blip.errors import BlipError
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.checkpoints import load_transformers, read_files, renamed_state, write_files
from blip.model.config_fields import Fields
from blip.model.config_json import ModelCard, config_values, parse_config
from blip.model.context import Context
from blip.model.packing import Packing
from blip.model.text import CrossAttention, Layer, TextConfig, TextTransformer, initialise_text
from blip.model.vision import VisionConfig, VisionTransformer

MODEL_TYPE = "blip_nlvr"


@dataclass(frozen=True)
class NlvrConfig:
    """The whole network. `merged_from`: the first text layer that merges the two images instead of averaging."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    merged_from: int = 6


class NlvrNetwork(nn.Module):
    """Vision tower, text encoder with two images to attend to, and a classifier."""

    def __init__(self, config: NlvrConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = VisionTransformer(config.vision)
        self.text_encoder = TextTransformer(config.text)
        for number, layer in enumerate(self.text_encoder.layers):
            layer.cross_attention = TwinAttention(config.text, merges=number >= config.merged_from)
        width = config.text.width
        self.cls_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        for module in (self.text_encoder, self.cls_head):
            initialise_text(module, width)

    def forward(
        self, images_left: Tensor, images_right: Tensor, ids_BT: Tensor, mask_BT: Tensor | None
    ) -> Tensor:
        """Logits ``[B, 2]``, float32; index 1 is "true".

        Args:
            images_left: normalised images ``[B, 3, S, S]``, as `images_right`.
            ids_BT: sentences that begin with ``[ENC]``.
        """
        return self.judge(self.vision(torch.cat((images_left, images_right))), ids_BT, mask_BT)

    def judge(
        self,
        tokens_PND: Tensor,
        ids_QT: Tensor,
        mask_QT: Tensor | None,
        pair_Q: Tensor | None = None,
        tokens: int | None = None,
    ) -> Tensor:
        """Logits ``[Q, 2]``, float32, of sentences about encoded images.

        Args:
            tokens_PND: of the left images, behind them of the right ones.
            pair_Q: which pair each sentence is about; None where sentence i is about pair i.
            tokens: how many the sentences have, where the host knows it and need not wait for a GPU to count.
        """
        context: list[Any] = self.text_encoder.project_context(tokens_PND)
        if pair_Q is not None:
            context = [(left.select(pair_Q), right.select(pair_Q)) for left, right in context]
        states = self.text_encoder(ids_QT, mask_QT, context, first_only=True, tokens=tokens)
        return self.cls_head(states[:, 0]).float()


class TwinAttention(nn.Module):
    """Two cross-attentions side by side under one residual and LayerNorm."""

    def __init__(self, config: TextConfig, merges: bool) -> None:
        super().__init__()
        self.image0, self.image1 = CrossAttention(config), CrossAttention(config)
        for attention in (self.image0, self.image1):
            attention.output = PlainOutput(config.width)  # type: ignore[assignment]
        self.merge = nn.Linear(2 * config.width, config.width) if merges else None
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.width, eps=1e-12)

    def project(self, tokens: Tensor, mask: Tensor | None) -> tuple[Context, Context]:
        """Keys and values of the left images, first in ``[2 * B, N, D]``, and of the right ones."""
        left, right = tokens.chunk(2)
        return self.image0.project(left, mask), self.image1.project(right, mask)

    def forward(self, x: Tensor, context: tuple[Context, Context], packing: Packing | None = None) -> Tensor:
        left, right = self.image0(x, context[0], packing), self.image1(x, context[1], packing)
        both = (left + right) / 2 if self.merge is None else self.merge(torch.cat((left, right), dim=-1))
        return self.norm(self.dropout(both) + x)

    def begin_as(self, cross: CrossAttention) -> None:
        """Take the weights of a pre-trained cross-attention, which looks at both images, and average what it finds."""
        for attention in (self.image0, self.image1):
            attention.query.load_state_dict(cross.query.state_dict())
            attention.kv.load_state_dict(cross.kv.state_dict())
            attention.output.dense.load_state_dict(cross.output.dense.state_dict())
        self.norm.load_state_dict(cross.output.norm.state_dict())
        if self.merge is not None:
            half = torch.eye(self.merge.out_features) / 2
            self.merge.weight.data.copy_(torch.cat((half, half), dim=1))
            self.merge.bias.data.zero_()


class PlainOutput(nn.Module):
    """The dense layer at the end of one of the two attentions; the residual is added after both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, attended: Tensor, _residual: Tensor) -> Tensor:
        return self.dense(attended)


def pre_trained(network: BlipNetwork) -> NlvrNetwork:
    """A network for two images that begins with the weights of one that was pre-trained on pairs.

    Both cross-attentions of a layer begin as the one that there was; the last half of the layers merges, and merging
    begins as averaging. Only the classifier is new.
    """
    config = network.config
    made = NlvrNetwork(NlvrConfig(config.vision, config.text, config.text.layers // 2))
    made.vision.load_state_dict(network.vision.state_dict())
    made.text_encoder.embeddings.load_state_dict(network.text_encoder.embeddings.state_dict())
    for own, layer in zip(made.text_encoder.layers, network.text_encoder.layers, strict=True):
        assert isinstance(own, Layer) and isinstance(layer, Layer)
        assert isinstance(own.cross_attention, TwinAttention) and isinstance(
            layer.cross_attention, CrossAttention
        )
        own.self_attention.load_state_dict(layer.self_attention.state_dict())
        own.feed_forward.load_state_dict(layer.feed_forward.state_dict())
        own.cross_attention.begin_as(layer.cross_attention)
    return made


def save_nlvr(network: NlvrNetwork, tokenizer: Tokenizer, directory: Path, card: ModelCard) -> None:
    """Write a model directory atomically. `transformers` has no class for it, and its type says so."""
    sizes = BlipConfig(network.config.vision, network.config.text)
    config = config_values(sizes, card, tokenizer.special_tokens)
    config |= {"architectures": ["NlvrNetwork"], "model_type": MODEL_TYPE}
    config["blip"]["merged_from"] = network.config.merged_from
    with atomic_path(directory) as temporary:
        write_files(temporary, renamed_state(network), config)
        tokenizer.save(temporary)


def load_nlvr(directory: Path) -> tuple[NlvrNetwork, ModelCard]:
    """Open a directory that `save_nlvr` wrote; `blip.model.two_images` does so with its tokenizer.

    Raises:
        BlipError: it is another model's, or weights are missing or of another shape; each is named.
    """
    values, state = read_files(directory)
    config, card = parse_config(values, str(directory))
    if values.get("model_type") != MODEL_TYPE:
        raise BlipError(f"{directory} is a model for {card.task}, not for NLVR2; blip.load opens it")
    own = Fields(values, f"{directory}/config.json").section("blip")
    merged_from = own.whole("merged_from", config.text.layers // 2, least=0)
    network = NlvrNetwork(NlvrConfig(config.vision, config.text, merged_from))
    missing = load_transformers(network, state, str(directory))
    if missing:
        raise BlipError(
            f"{directory}: {len(missing)} weights are missing, {missing[0]} among them; import it again"
        )
    return network.eval(), card
