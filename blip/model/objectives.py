"""The pre-training objective: ITC + ITM + LM from one pass over the images (BLIP paper, section 3.2).

Each image's cross-attention keys and values are projected once and serve the matched pair, both kinds of
negatives and the decoder, because encoder and decoder share cross-attention and every negative is in the batch.
The same module, with losses left out by weight, fine-tunes captioner, filter, retrieval and captioning.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from blip.model.blip import BlipNetwork
from blip.model.losses import hard_negatives, hard_targets, itc_loss, lm_loss, same_group, soft_targets
from blip.model.momentum import FeatureQueue, MomentumTwin
from blip.model.text import Context

TEMPERATURE_RANGE = (0.001, 0.5)
IGNORED = -100


@dataclass(frozen=True)
class SpecialTokens:
    """Ids that take the place of ``[CLS]`` at position 0, and of padding and the end."""

    pad: int
    cls: int
    sep: int
    decode: int
    encode: int


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights and settings of the losses; the defaults are the paper's.

    Attributes:
        alpha_ramp: share of the run over which `alpha` grows from 0.
        queue_from: share of the run before which the queue is filled but not compared with. While a short run learns
            fast, old keys are told from new ones by their age alone, and features collapse on that.
    """

    itc: float = 1.0
    itm: float = 1.0
    lm: float = 1.0
    queue: int = 57600
    momentum: float = 0.995
    alpha: float = 0.4
    alpha_ramp: float = 0.0
    queue_from: float = 0.0
    temperature: float = 0.07
    label_smoothing: float = 0.1
    random_negatives: float = 0.0


@dataclass(frozen=True)
class PairBatch:
    """Tensors of one step: normalised images, padded texts starting with ``[CLS]``, and who matches whom.

    Attributes:
        images: ``[B, 3, S, S]``.
        ids, mask: ``[B, T]``.
        group: ``[B, 2]``; pairs that agree in either column (the image, the text) are no negatives of each other.
        prompt_tokens: leading tokens of every text that the decoder is not taught to write.
    """

    images: Tensor
    ids: Tensor
    mask: Tensor
    group: Tensor
    prompt_tokens: int = 0

    def to(self, device: torch.device | str) -> "PairBatch":
        moved = {name: getattr(self, name).to(device) for name in ("images", "ids", "mask", "group")}
        return replace(self, **moved)


class PairObjective(nn.Module):
    """Network, momentum twin and queue as one module, so that one checkpoint holds all of them."""

    def __init__(self, network: BlipNetwork, config: ObjectiveConfig, tokens: SpecialTokens) -> None:
        super().__init__()
        self.network, self.config, self.tokens = network, config, tokens
        self.progress = 1.0  # of the run, set by the trainer
        self.twin = MomentumTwin(network, config.momentum) if config.itc else None
        self.queue = FeatureQueue(config.queue, network.config.projection) if config.itc else None
        with torch.no_grad():
            network.temperature.fill_(config.temperature)

    def forward(self, batch: PairBatch) -> dict[str, Tensor]:
        """The unweighted losses by name and ``loss``, their weighted sum, all float32 scalars."""
        network, config = self.network, self.config
        tokens_BND = network.vision(batch.images)
        losses: dict[str, Tensor] = {}
        similarity = None
        if config.itc or config.itm:
            image, text = network.embed_image(tokens_BND), network.embed_text(batch.ids, batch.mask)
            temperature = self._temperature()
            keys = self._keys(batch, tokens_BND)
            if config.itc:
                losses["itc"] = self._itc(image, text, keys, batch.group, temperature)
            similarity = self._similarity(image, text, keys, temperature)
        context = network.text_encoder.project_context(tokens_BND)
        if config.itm and similarity is not None:
            losses["itm"] = self._itm(batch, context, similarity)
        if config.lm:
            if not network.config.tied:
                context = network.text_decoder.project_context(tokens_BND)
            losses["lm"] = self._lm(batch, context)
        losses["loss"] = sum((getattr(config, name) * loss for name, loss in losses.items()), torch.zeros(()))
        return losses

    def _temperature(self) -> Tensor:
        """The learned temperature, clamped in value; its gradient passes, so that it can come back into range."""
        t = self.network.temperature
        return t + (t.clamp(*TEMPERATURE_RANGE) - t).detach()

    def _keys(self, batch: PairBatch, tokens_BND: Tensor) -> tuple[Tensor, Tensor] | None:
        """Momentum features of the batch; the twin moves first, as published."""
        if self.twin is None:
            return None
        if self.training:
            self.twin.update(self.network)
        return self.twin.embed(batch.images, tokens_BND, batch.ids, batch.mask)

    def _itc(
        self,
        image: Tensor,
        text: Tensor,
        keys: tuple[Tensor, Tensor] | None,
        group: Tensor,
        temperature: Tensor,
    ) -> Tensor:
        assert keys is not None and self.queue is not None
        image_keys, text_keys, key_group = self._with_queue(*keys, group)
        hard = hard_targets(same_group(group, key_group))
        alpha = self.config.alpha * min(1.0, self.progress / max(self.config.alpha_ramp, 1e-9))
        with full_precision(image):
            with torch.no_grad():
                i2t = soft_targets(hard, keys[0] @ text_keys.T / temperature, alpha)
                t2i = soft_targets(hard, keys[1] @ image_keys.T / temperature, alpha)
            loss = itc_loss(image, text, image_keys, text_keys, (i2t, t2i), temperature)
        if self.training:
            self.queue.push(keys[0], keys[1], group)
        return loss

    def _with_queue(self, image: Tensor, text: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The batch's keys, and behind them the queue's once it counts."""
        if self.queue is None or self.progress < self.config.queue_from:
            return image, text, group
        queue = self.queue
        return torch.cat((image, queue.image)), torch.cat((text, queue.text)), torch.cat((group, queue.group))

    @torch.no_grad()
    def _similarity(
        self, image: Tensor, text: Tensor, keys: tuple[Tensor, Tensor] | None, temperature: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Similarities ``[B, B]`` image->text and text->image, by which hard negatives are drawn."""
        image_keys, text_keys = keys or (image, text)
        with full_precision(image):
            return image @ text_keys.T / temperature, text @ image_keys.T / temperature

    def _itm(self, batch: PairBatch, context: list[Context], similarity: tuple[Tensor, Tensor]) -> Tensor:
        same = same_group(batch.group, batch.group)
        share = self.config.random_negatives
        negative_text = hard_negatives(similarity[0], same, random_share=share)
        negative_image = hard_negatives(similarity[1], same, random_share=share)
        rows = torch.arange(len(same), device=same.device)
        text_index = torch.cat((rows, rows, negative_text))
        image_index = torch.cat((rows, negative_image, rows))
        ids = _with_first(batch.ids, self.tokens.encode)
        logits = self.network.match(
            ids[text_index], batch.mask[text_index], [layer.select(image_index) for layer in context]
        )
        matched = same[text_index, image_index].long()
        return nn.functional.cross_entropy(logits, matched)

    def _lm(self, batch: PairBatch, context: list[Context]) -> Tensor:
        ids = _with_first(batch.ids, self.tokens.decode)
        targets = batch.ids.masked_fill(batch.mask == 0, IGNORED)
        targets[:, : max(batch.prompt_tokens, 1)] = IGNORED
        return decoder_loss(self.network, ids, targets, batch.mask, context, self.config.label_smoothing)


def decoder_loss(
    network: BlipNetwork,
    ids_BT: Tensor,
    targets_BT: Tensor,
    mask_BT: Tensor,
    context: list[Context],
    label_smoothing: float,
    weights_B: Tensor | None = None,
) -> Tensor:
    """Next-token loss; logits are computed where there is a target and nowhere else.

    Args:
        ids_BT: decoder input, ``[DEC]`` first.
        targets_BT: the token at each position, `IGNORED` where none is learnt; shifted here.
        weights_B: a weight for every text.
    """
    states = network.text_decoder(ids_BT[:, :-1], mask_BT[:, :-1], context, causal=True)
    targets = targets_BT[:, 1:]
    row, column = (targets != IGNORED).nonzero(as_tuple=True)
    logits = network.lm_head(states[row, column], network.word_embedding)
    weights = None if weights_B is None else weights_B[row]
    return lm_loss(logits, targets[row, column], label_smoothing, weights)


def full_precision(like: Tensor) -> torch.autocast:
    """A region without autocast: similarities divided by a small temperature need float32."""
    return torch.autocast(like.device.type, enabled=False)


def _with_first(ids_BT: Tensor, token: int) -> Tensor:
    """The texts with position 0 replaced, never prepended."""
    ids = ids_BT.clone()
    ids[:, 0] = token
    return ids
