"""The BLIP network: an image encoder, the text transformer as encoder and as decoder, and three heads."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip.model.context import AnyContext
from blip.model.losses import LanguageModelLoss
from blip.model.text import (
    LanguageModelHead,
    TextConfig,
    TextTransformer,
    initialise_text,
    spread_texts,
)
from blip.model.vision import VisionConfig, VisionTransformer


@dataclass(frozen=True)
class BlipConfig:
    """The whole network. `tied`: encoder and decoder share all but self-attention (VQA fine-tuning unties them)."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    projection: int = 256
    tied: bool = True


class BlipNetwork(nn.Module):
    """Vision tower, MED and heads; the losses live in `objectives`, decoding in `generation`."""

    def __init__(self, config: BlipConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = VisionTransformer(config.vision)
        self.text_encoder = TextTransformer(config.text)
        self.text_decoder = TextTransformer(config.text, self.text_encoder if config.tied else None)
        self.lm_head = LanguageModelHead(config.text)
        self.lm_loss = LanguageModelLoss()
        self.vision_projection = nn.Linear(config.vision.width, config.projection)
        self.text_projection = nn.Linear(config.text.width, config.projection)
        self.itm_head = nn.Linear(config.text.width, 2)
        self.temperature = nn.Parameter(torch.tensor([0.07]))
        heads = (self.lm_head, self.itm_head, self.vision_projection, self.text_projection)
        for module in (self.text_encoder, self.text_decoder, *heads):
            initialise_text(module, config.text.width)
        spread_texts(self.text_encoder)

    @property
    def word_embedding(self) -> Tensor:
        """The word embedding of the decoder ``[V, D]``, which is the encoder's when tied."""
        return self.text_decoder.embeddings.word.weight

    def project_image(self, tokens_BND: Tensor) -> Tensor:
        """Image tokens to vectors ``[B, P]`` of any length, in float32."""
        return self.vision_projection(tokens_BND[:, 0]).float()

    def embed_image(self, tokens_BND: Tensor) -> Tensor:
        """Image tokens to unit vectors ``[B, P]``, in float32."""
        return F.normalize(self.project_image(tokens_BND), dim=-1)

    def embed_text(self, ids_BT: Tensor, mask_BT: Tensor, tokens: int | None = None) -> Tensor:
        """Texts (starting with ``[CLS]``) to unit vectors ``[B, P]``, in float32."""
        states = self.text_encoder(ids_BT, mask_BT, first_only=True, tokens=tokens)
        return F.normalize(self.text_projection(states[:, 0]).float(), dim=-1)

    def match(
        self, ids_BT: Tensor, mask_BT: Tensor, context: Sequence[AnyContext], tokens: int | None = None
    ) -> Tensor:
        """ITM logits ``[B, 2]`` of texts (starting with ``[ENC]``) with images; index 1 is "matched"."""
        states = self.text_encoder(ids_BT, mask_BT, context, first_only=True, tokens=tokens)
        return self.itm_head(states[:, 0]).float()
