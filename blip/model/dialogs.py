"""Visual dialog (VisDial): is an answer the right one, after a picture, its caption and what was said so far?

    objective = DialogObjective(network)                                # learning
    rank = answer_ranker(Blip.open("models/visdial"))                    # using
    rank(["photo.jpg"], ["a bike in the street"], [Turn(0, "is it red?", ("yes", "no"))])     # [tensor([2.3, -1.9])]

BLIP paper, section 5.5: image and caption embeddings are put together, the text encoder reads dialog and answer and
looks at both by cross-attention, and the ITM head tells right answers from wrong ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip.data.images import ImageInput
from blip.data.text import Tokenizer, clean_caption, clean_question
from blip.errors import BlipError
from blip.model.api import Blip
from blip.model.batch import all_to, counted
from blip.model.blip import BlipNetwork
from blip.model.context import Context
from blip.model.parts import require
from blip.model.precision import autocast

LONGEST = 1 << 16  # tokens of a dialog before its beginning is cut off
CAPTION_TOKENS = 40
AT_ONCE = 8192  # tokens of the candidates at hand, with padding


@dataclass(frozen=True)
class DialogBatch:
    """B images with a caption each, and M dialogs ``[M, T]`` that end in an answer, dialog i about image ``image[i]``.

    Attributes:
        images: ``[B, 3, S, S]``, uint8 until `to` has normalised them on the device.
        captions, caption_mask: they begin with ``[CLS]``.
        dialogs, mask: they begin with ``[ENC]``.
        right: ``[M]``, 1 where the answer is the right one, else 0; int64.
        described, said: tokens of the captions and of the dialogs, counted before they go to a GPU.
    """

    images: Tensor
    captions: Tensor
    caption_mask: Tensor
    image: Tensor
    dialogs: Tensor
    mask: Tensor
    right: Tensor
    described: int | None = None
    said: int | None = None

    def to(self, device: torch.device | str) -> "DialogBatch":
        described, said = counted(self.caption_mask, self.described), counted(self.mask, self.said)
        return replace(self, **all_to(self, device), described=described, said=said)


class DialogObjective(nn.Module):
    """The network with its loss; what it does not use keeps its weights."""

    def __init__(self, network: BlipNetwork) -> None:
        super().__init__()
        text = network.config.text
        if text.context_width != text.width:
            raise BlipError(
                f"the encoder reads captions beside image tokens: their width {text.width} must be the image tokens' "
                f"{text.context_width}; go on from a model whose image encoder is as wide as its text transformer"
            )
        self.network = network
        self.progress = 1.0  # of the run, set by the trainer
        used = {
            id(p)
            for part in ("vision", "text_encoder", "itm_head")
            for p in getattr(network, part).parameters()
        }
        for parameter in network.parameters():
            if id(parameter) not in used:
                parameter.requires_grad_(False)

    def forward(self, batch: DialogBatch) -> dict[str, Tensor]:
        """``{"itm": ..., "loss": ...}``, float32 scalars."""
        network = self.network
        captions = batch.captions, batch.caption_mask, batch.described
        context = dialog_context(network, network.vision(batch.images), *captions)
        chosen = [layer.select(batch.image) for layer in context]
        loss = F.cross_entropy(network.match(batch.dialogs, batch.mask, chosen, batch.said), batch.right)
        return {"itm": loss, "loss": loss}


def dialog_context(
    network: BlipNetwork,
    tokens_BND: Tensor,
    captions_BT: Tensor,
    mask_BT: Tensor,
    described: int | None = None,
) -> list[Context]:
    """What the dialogs about B images look at: the image's tokens and, behind them, its caption's states.

    `described` is how many tokens the captions have, where the host knows it.
    """
    states = network.text_encoder(captions_BT, mask_BT, tokens=described)
    seen = torch.cat((mask_BT.new_ones(tokens_BND.shape[:2]), mask_BT), dim=1)
    return network.text_encoder.project_context(
        torch.cat((tokens_BND, states.to(tokens_BND.dtype)), dim=1), seen
    )


def encode_dialogs(
    tokenizer: Tokenizer, dialogs: Sequence[str], answers: Sequence[str], max_tokens: int
) -> tuple[Tensor, Tensor]:
    """Encode each dialog with its answer as ``[ENC] ... [SEP]``.

    Of what is too long the beginning is left out: the question comes last, and the answer behind it.

    Returns:
        ids and mask, int64 ``[M, T]``.
    """
    pairs = zip(dialogs, answers, strict=True)
    texts = [f"{_cleaned(dialog)} {_cleaned(answer)}".strip() for dialog, answer in pairs]
    whole, whole_mask = tokenizer.encode(texts, LONGEST)
    lengths = whole_mask.sum(1, keepdim=True)
    kept = lengths.clamp(max=max_tokens)
    place = torch.arange(int(kept.max()) if texts else 0)
    mask = (place < kept).long()
    ids = whole.gather(1, (place + lengths - kept).clamp(max=whole.shape[1] - 1))
    ids = ids.masked_fill(mask == 0, tokenizer.pad)
    ids[:, :1] = tokenizer.enc
    return ids, mask


def _cleaned(text: str) -> str:
    return clean_question(text, max_words=LONGEST)


class Turn(NamedTuple):
    """A question of a dialog about image number `image`: all that was said, the question last, and the candidates."""

    image: int
    dialog: str
    candidates: Sequence[str]


Ranker = Callable[[Sequence[ImageInput], Sequence[str], Sequence[Turn]], list[Tensor]]


def answer_ranker(model: Blip) -> Ranker:
    """How a model ranks answers: ``rank(images, captions, turns)``, log-odds of being right, float32 ``[C]`` a turn.

    Raises:
        BlipError: the model was saved without what matching needs.
    """
    require("match", model.card.missing)

    @torch.inference_mode()
    def rank(images: Sequence[ImageInput], captions: Sequence[str], turns: Sequence[Turn]) -> list[Tensor]:
        tokens = model.encode_images(images, len(images))
        texts = [clean_caption(text) for text in captions]
        ids, mask = model.tokenizer.encode(texts, CAPTION_TOKENS)
        with autocast(model.device, model.dtype):
            texts_BT = ids.to(model.device), mask.to(model.device), counted(mask)
            context = dialog_context(model.network, tokens, *texts_BT)
            return [_rank_turn(model, context, turn) for turn in turns]

    return rank


def _rank_turn(model: Blip, context: Sequence[Context], turn: Turn) -> Tensor:
    """All candidates of a turn look at one copy of keys and values."""
    index = torch.tensor([turn.image], device=model.device)
    own = [layer.select(index) for layer in context]
    count = len(turn.candidates)
    ids, mask = encode_dialogs(model.tokenizer, [turn.dialog] * count, turn.candidates, model.card.max_tokens)
    step = max(AT_ONCE // max(ids.shape[1], 1), 1)
    parts = [
        model.network.match(i.to(model.device), m.to(model.device), own, counted(m))
        for i, m in zip(ids.split(step), mask.split(step), strict=True)
        if len(i)
    ]
    return torch.cat([logits[:, 1] - logits[:, 0] for logits in parts]).cpu() if parts else torch.empty(0)
