"""The pre-training objective: ITC + ITM + LM from one pass over the images (BLIP paper, section 3.2).

Each image's cross-attention keys and values are projected once and serve the matched pair, both kinds of
negatives and the decoder, because encoder and decoder share cross-attention and every negative is in the batch.
The same module, with losses left out by weight, fine-tunes captioner, filter, retrieval and captioning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from blip.data.text import SpecialTokens
from blip.model.batch import PairBatch
from blip.model.blip import BlipNetwork
from blip.model.context import AnyContext, Context, Grouped, TwoContexts
from blip.model.contrast import Contrast, Features, leaf
from blip.model.decoder_loss import decoder_loss
from blip.model.grouping import Groups
from blip.model.losses import (
    IGNORED,
    hard_negatives,
    hard_targets,
    itc_loss,
    same_group,
    same_row,
    sigmoid_itc_loss,
    soft_targets,
)
from blip.model.momentum import FeatureQueue, MomentumTwin
from blip.model.negatives import Negatives, negatives_of_all_ranks, to_length
from blip.model.packing import takes_ragged
from blip.model.precision import full_precision
from blip.model.ranks import from_first_rank, gather, gather_with_gradient, own_rows, world_size
from blip.model.readback import Readback

TEMPERATURE_RANGE = (0.001, 0.5)


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights and settings of the losses; the defaults are the paper's.

    Attributes:
        queue: keys of earlier steps, of all ranks, that a batch is compared with too; may be 0 or below the batch.
        alpha_ramp: share of the run over which `alpha` grows from 0.
        queue_from: share of the run before which the queue is filled but not compared with. While a short run learns
            fast, old keys are told from new ones by their age alone, and features collapse on that.
        negative_floor: added to the weight of every ITM negative (pre-training); fine-tuning, as published, has 0.
        temperature: that similarities are divided by at first; None: what the network has learnt stays.
        random_negatives: share of ITM negatives drawn uniformly and not by similarity.
        distractor_share: where a batch has distractors, the share of ITM's negative texts that are such.
        itc_keys: ``local``, as published: a rank's features are compared with its own batch's keys and the queue.
            ``global``: with the batches of all ranks, so that the loss does not depend on how many there are.
        itm_negatives: ``local``: drawn from the rank's own batch. ``global``: from those of all ranks, as the
            published fine-tuning on COCO does; image tokens are gathered with their gradient.
        negatives_by: ITM's hard negatives are like the ``keys`` of the momentum twin, as in published pre-training, or
            like the network's own ``features``, as in its fine-tuning.
        lm_mean: over the tokens of the rank (``local``, as published) or of all ranks (``global``).
        contrast: ``softmax``: ITC as published. ``sigmoid``: SigLIP's loss (Zhai et al. 2023) over the network's own
            features of the batch (of all ranks with global keys). It needs no other batch, so there is no momentum
            twin, queue or soft target, whose settings are then without effect; ITM negatives are drawn by the
            network's own similarities.
        sigmoid_bias: where the learned bias of the sigmoid starts.
    """

    itc: float = 1.0
    itm: float = 1.0
    lm: float = 1.0
    queue: int = 57600
    momentum: float = 0.995
    alpha: float = 0.4
    alpha_ramp: float = 0.1
    queue_from: float = 0.0
    temperature: float | None = 0.07
    label_smoothing: float = 0.1
    negative_floor: float = 1e-4
    random_negatives: float = 0.0
    distractor_share: float = 0.5
    itc_keys: Literal["local", "global"] = "local"
    itm_negatives: Literal["local", "global"] = "local"
    negatives_by: Literal["keys", "features"] = "keys"
    lm_mean: Literal["local", "global"] = "local"
    contrast: Literal["softmax", "sigmoid"] = "softmax"
    sigmoid_bias: float = -10.0


class PairObjective(nn.Module):
    """Network, momentum twin and queue as one module, so that one checkpoint holds all of them.

    With several ranks each has the loss of its own pairs, and the ranks' gradients are averaged outside. A batch of
    one pair, or of pairs that all are of one group, has no negatives but those of the queue: without one ITC is 0 for
    a pair, and teaches several only to be as close to each other as to themselves; ITM sees matched pairs alone.
    """

    def __init__(self, network: BlipNetwork, config: ObjectiveConfig, tokens: SpecialTokens) -> None:
        super().__init__()
        self.network, self.config, self.tokens = network, config, tokens
        self.progress = 1.0  # of the run, set by the trainer
        self.first_of_step = True  # set by the trainer, where a step has several batches
        sigmoid = config.contrast == "sigmoid"
        contrasts_keys = bool(config.itc) and not sigmoid
        self.twin = MomentumTwin(network, config.momentum) if contrasts_keys else None
        self.queue = FeatureQueue(config.queue, network.config.projection) if contrasts_keys else None
        bias = torch.tensor([config.sigmoid_bias])
        self.sigmoid_bias = nn.Parameter(bias) if config.itc and sigmoid else None
        if config.temperature is not None:
            with torch.no_grad():
                network.temperature.fill_(config.temperature)
        self.register_forward_pre_hook(_move_twin)

    @property
    def alpha(self) -> float | None:
        """The share of the twin's soft targets at this point of the run; None where nothing has such targets."""
        if self.twin is None:
            return None
        return self.config.alpha * min(1.0, self.progress / max(self.config.alpha_ramp, 1e-9))

    @property
    def temperature(self) -> float | None:
        """What similarities are divided by in ITC; None without ITC. On a GPU the host waits for it."""
        learned = self.network.temperature
        return learned.clamp(*TEMPERATURE_RANGE).item() if self.config.itc and learned.numel() == 1 else None

    def forward(self, batch: PairBatch, contrast: Contrast | None = None) -> dict[str, Tensor]:
        """The unweighted losses by name and ``loss``, their weighted sum, all float32 scalars.

        Args:
            contrast: where a step has several batches, ITC of all of them and what it says about this one (`contrast`).
        """
        network, config = self.network, self.config
        tokens_BND = network.vision(batch.images)
        losses: dict[str, Tensor] = {}
        similarity = None
        if config.itc or config.itm:
            features = self._features(batch, tokens_BND, contrast)
            temperature = self._temperature()
            if config.itc and contrast:
                losses["itc"] = contrast.loss_of(features, temperature, self.sigmoid_bias)
            elif config.itc:
                losses["itc"] = self._itc(features, temperature, self.sigmoid_bias)
            if config.itm:
                similarity = self._similarity(features, temperature)
        losses |= self._of_images_and_texts(batch, tokens_BND, similarity)
        losses["loss"] = sum((getattr(config, name) * loss for name, loss in losses.items()), torch.zeros(()))
        return losses

    def _of_images_and_texts(
        self, batch: PairBatch, tokens_BND: Tensor, similarity: tuple[Tensor, Tensor] | None
    ) -> dict[str, Tensor]:
        """ITM and LM. A GPU begins with LM: while it works the host learns how many tokens ITM has drawn."""
        network = self.network
        context = network.text_encoder.project_context(tokens_BND)
        work: dict[str, Callable[[], Tensor]] = {}
        if similarity is not None:
            work["itm"] = self._itm(batch, tokens_BND, context, similarity)
        if self.config.lm:
            if not network.config.tied:
                context = network.text_decoder.project_context(tokens_BND)
            work["lm"] = partial(self._lm, batch, context)
        order = reversed(work) if tokens_BND.is_cuda else iter(work)
        found = {name: work[name]() for name in order}
        return {name: found[name] for name in work}

    def features(self, batch: PairBatch) -> Features:
        """What ITC compares of a batch. The same random numbers are drawn as by `forward`, and in their order."""
        return self._features(batch, self.network.vision(batch.images))

    def contrast(self, batches: Sequence[Features]) -> list[Contrast]:
        """ITC over the features of all batches of a step, and its gradient by each batch's.

        This is GradCache (Gao et al. 2021). With several ranks every one calls this. In training the keys of all
        batches enter the queue here.
        """
        parts = [one.leaves() for one in batches]
        temperature = leaf(self._temperature())
        bias = None if self.sigmoid_bias is None else leaf(self.sigmoid_bias)
        loss = self._itc(Features.joined(parts), temperature, bias)
        leaves = [value for one in parts for value in one.learnt] + [temperature]
        leaves += [] if bias is None else [bias]
        found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        features, scalars = found[: 3 * len(parts)], found[3 * len(parts) :]
        return [
            Contrast(loss.detach(), [len(parts) * g for g in features[3 * n : 3 * n + 3]], scalars, one.keys)
            for n, one in enumerate(parts)
        ]

    def move_twin(self) -> None:
        """Once a step, before its first forward."""
        if self.training and self.twin is not None:
            self.twin.update(self.network)

    def _features(self, batch: PairBatch, tokens_BND: Tensor, contrast: Contrast | None = None) -> Features:
        image = batch.for_texts(self.network.embed_image(tokens_BND))
        embedded = self.network.embed_text(*batch.with_distractors())
        text, distractors = embedded[: len(batch.ids)], embedded[len(batch.ids) :]
        keys = contrast.keys if contrast else self._keys(batch, tokens_BND)
        return Features(image, text, distractors, keys, batch.group)

    def _temperature(self) -> Tensor:
        """The learned temperature, clamped before every forward, as published.

        Its gradient passes the clamp, so that it can come back into range. The weight itself is clamped in training;
        where an optimiser keeps weights of its own beside it, what the forward reads still is.
        """
        t = self.network.temperature
        if self.training:
            with torch.no_grad():
                t.clamp_(*TEMPERATURE_RANGE)
        return t + (t.clamp(*TEMPERATURE_RANGE) - t).detach()

    def _keys(self, batch: PairBatch, tokens_BND: Tensor) -> tuple[Tensor, Tensor] | None:
        """Momentum features of the batch; the twin has moved before, as published."""
        if self.twin is None:
            return None
        image, text = self.twin.embed(
            batch.images, tokens_BND, batch.ids, batch.mask, batch.counts and batch.counts.tokens
        )
        return batch.for_texts(image), text

    def _itc(self, features: Features, temperature: Tensor, bias: Tensor | None) -> Tensor:
        if features.keys is None:
            assert bias is not None
            return self._sigmoid_itc(features, temperature, bias)
        return self._softmax_itc(features, features.keys, temperature)

    def _softmax_itc(self, features: Features, keys: tuple[Tensor, Tensor], temperature: Tensor) -> Tensor:
        """Distractors are keys that no image has; features of the network itself, so that they learn to keep away."""
        image, text, distractors = features.learnt
        group = features.group
        alpha = self.alpha
        assert self.queue is not None and alpha is not None
        image_keys, text_keys, key_group = self._with_queue(*keys, group)
        hard = hard_targets(same_group(group, key_group))
        with full_precision(image):
            with torch.no_grad():
                i2t = soft_targets(hard, keys[0] @ text_keys.T / temperature, alpha)
                t2i = soft_targets(hard, keys[1] @ image_keys.T / temperature, alpha)
            i2t = nn.functional.pad(i2t, (0, len(distractors)))
            text_keys = torch.cat((text_keys, distractors))
            loss = itc_loss(image, text, image_keys, text_keys, (i2t, t2i), temperature)
        if self.training:
            self.queue.push(keys[0], keys[1], group)
        return loss

    def _with_queue(self, image: Tensor, text: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The batch's keys, or those of all ranks, and behind them the queue's once it counts."""
        if self.config.itc_keys == "global":
            image, text, group = gather(image), gather(text), gather(group)
        if self.queue is None or self.progress < self.config.queue_from:
            return image, text, group
        queue = self.queue
        return torch.cat((image, queue.image)), torch.cat((text, queue.text)), torch.cat((group, queue.group))

    def _sigmoid_itc(self, features: Features, temperature: Tensor, bias: Tensor) -> Tensor:
        image, text, distractors = features.learnt
        group = features.group
        text_group = group
        if self.config.itc_keys == "global":
            text, text_group = gather_with_gradient(text), gather(group)
        with full_precision(image):
            same = nn.functional.pad(same_group(group, text_group), (0, len(distractors)))
            text = torch.cat((text, distractors))
            return sigmoid_itc_loss(image, text, same, temperature, bias)

    @torch.no_grad()
    def _similarity(self, features: Features, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """Similarities ``[P, P]`` image->text and text->image, by which hard negatives are drawn.

        With global negatives they are of the pairs of all ranks.
        """
        image, text, _ = features.learnt
        keys = features.keys if self.config.negatives_by == "keys" else None
        image_keys, text_keys = keys or (image, text)
        if self._global_negatives:
            image, text, image_keys, text_keys = map(gather, (image, text, image_keys, text_keys))
        with full_precision(image):
            return image @ text_keys.T / temperature, text @ image_keys.T / temperature

    @property
    def _global_negatives(self) -> bool:
        return self.config.itm_negatives == "global" and world_size() > 1

    def _itm(
        self,
        batch: PairBatch,
        tokens_BND: Tensor,
        context: list[Context],
        similarity: tuple[Tensor, Tensor],
    ) -> Callable[[], Tensor]:
        """Every image with its text and a negative one, and every text with a negative image.

        Negatives are drawn here; the loss is computed when what is returned is called.
        """
        if self._global_negatives:
            return self._itm_of_all_ranks(batch, tokens_BND, context, similarity)
        same = same_group(batch.group, batch.group)
        negative_text, negative_image = self._draw(similarity, same)
        rows = torch.arange(len(same), device=same.device)
        ids, mask, _ = batch.with_distractors()
        if len(ids) > len(rows):
            same = nn.functional.pad(same, (0, 0, 0, len(rows)))
            drawn = torch.rand(len(rows), device=rows.device) < self.config.distractor_share
            negative_text = torch.where(drawn, rows + len(rows), negative_text)
        text_index = torch.cat((_in_turn(rows, negative_text), rows))
        image_index = torch.cat((_in_turn(rows, rows), negative_image))
        if takes_ragged(tokens_BND, self.network.config.text.width):
            image = image_index if batch.image is None else batch.image[image_index]
            image, order = image.sort(stable=True)
            text_index, image_index = text_index[order], image_index[order]
            ids, mask = ids[text_index], mask[text_index]
            return self._match_in_groups(ids, mask, context, image, same[text_index, image_index])
        both = _both(batch.contexts_for(context), batch.contexts_for(context, negative_image))
        ids, mask, matched = ids[text_index], mask[text_index], same[text_index, image_index]
        size = Readback(mask.sum())
        return lambda: self._match(ids, mask, both, matched, *size.wait())

    def _match_in_groups(
        self, ids_MT: Tensor, mask_MT: Tensor, context: list[Context], image_M: Tensor, matched_M: Tensor
    ) -> Callable[[], Tensor]:
        """As `_match`, with texts in the order of their images."""
        groups = Groups.of(image_M, mask_MT.sum(1), context[0].rows)
        most = [starts_E.diff().amax() for starts_E in groups]
        sizes = Readback(mask_MT.sum(), *most)

        def match() -> Tensor:
            tokens, *most = sizes.wait()
            return self._match(ids_MT, mask_MT, groups.over(context, *most), matched_M, tokens)

        return match

    def _itm_of_all_ranks(
        self,
        batch: PairBatch,
        tokens_BND: Tensor,
        context: list[Context],
        similarity: tuple[Tensor, Tensor],
    ) -> Callable[[], Tensor]:
        """As `_itm`, each rank with its own pairs and what rank 0 has drawn for them from all."""
        group, lengths = gather(batch.group), gather(batch.mask.sum(1))
        every = from_first_rank(torch.stack(self._draw(similarity, same_group(group, group)), dim=1))
        drawn = own_rows(every)
        sizes = Readback(2 * batch.mask.sum() + lengths[drawn[:, 0]].sum(), lengths.amax())

        def match() -> Tensor:
            tokens, longest = sizes.wait()
            texts = (batch.ids, batch.mask)
            others = negatives_of_all_ranks(texts, batch.group, tokens_BND, batch.image, drawn, longest)
            negative = self.network.text_encoder.project_context(others.tokens_PND)
            context_of_both = _both(batch.contexts_for(context), negative)
            return self._match(
                *_with_others(batch, others, longest), context_of_both, _matched(batch, others), tokens
            )

        return match

    def _draw(self, similarity: tuple[Tensor, Tensor], same: Tensor) -> tuple[Tensor, Tensor]:
        """A negative text for every image and a negative image for every text."""
        floor, share = self.config.negative_floor, self.config.random_negatives
        negative_text = hard_negatives(similarity[0], same, floor, share)
        return negative_text, hard_negatives(similarity[1], same, floor, share)

    def _match(
        self,
        ids_MT: Tensor,
        mask_MT: Tensor,
        context: Sequence[AnyContext],
        matched_M: Tensor,
        tokens: int | None = None,
    ) -> Tensor:
        logits = self.network.match(_with_first(ids_MT, self.tokens.encode), mask_MT, context, tokens)
        return nn.functional.cross_entropy(logits, matched_M.long())

    def _lm(self, batch: PairBatch, context: list[Context]) -> Tensor:
        ids = _with_first(batch.ids, self.tokens.decode)
        targets = batch.ids.masked_fill(batch.mask == 0, IGNORED)
        targets[:, : max(batch.prompt_tokens, 1)] = IGNORED
        smoothing, counts, mask = self.config.label_smoothing, batch.counts, batch.mask
        if counts and takes_ragged(context[0].keys, self.network.config.text.width):
            seen, order = _in_groups(batch, context, counts.most_texts)
            ids, targets, mask = ids[order], targets[order], mask[order]
        else:
            seen = batch.contexts_for(context)
        written = counts and counts.written
        loss = decoder_loss(self.network, ids, targets, mask, seen, smoothing, written=written)
        if self.config.lm_mean == "local":
            return loss
        own = (targets[:, 1:] != IGNORED).sum().clamp_min(1)
        return loss * own / gather(own[None]).float().mean()


def _in_groups(batch: PairBatch, context: list[Context], most_texts: int) -> tuple[list[Grouped], Tensor]:
    """The images' contexts for the decoder, and the texts' order for them."""
    rows = torch.arange(len(batch.ids), device=batch.ids.device)
    image, order = (rows, rows) if batch.image is None else batch.image.sort(stable=True)
    lengths = batch.mask[order, :-1].sum(1)
    groups = Groups.of(image, lengths, context[0].rows)
    return groups.over(context, most_texts, most_texts * (batch.ids.shape[1] - 1)), order


def _move_twin(objective: PairObjective, _: tuple[PairBatch, ...]) -> None:
    """Before the first forward of a step, and outside of it: inside, ZeRO 3 gives no whole weights."""
    if objective.first_of_step:
        objective.move_twin()


def _in_turn(a_P: Tensor, b_P: Tensor) -> Tensor:
    """``a[0], b[0], a[1], b[1], ...``"""
    return torch.stack((a_P, b_P), dim=1).flatten(0, 1)


def _with_others(batch: PairBatch, others: Negatives, longest: int) -> tuple[Tensor, Tensor]:
    """Ids and mask: each text and behind it the negative of its image, and then the texts for the negative images."""
    ids, mask = to_length(batch.ids, longest), to_length(batch.mask, longest)
    return torch.cat((_in_turn(ids, others.ids_PT), ids)), torch.cat((_in_turn(mask, others.mask_PT), mask))


def _matched(batch: PairBatch, others: Negatives) -> Tensor:
    """Which of these go together, drawn ones among them where nothing else was there to draw."""
    own = torch.ones_like(batch.group[:, 0], dtype=torch.bool)
    drawn_text = same_row(batch.group, others.text_group_P2)
    return torch.cat((_in_turn(own, drawn_text), same_row(batch.group, others.image_group_P2)))


def _both(shared: list[Context], own: list[Context]) -> list[TwoContexts]:
    return [TwoContexts(*layers) for layers in zip(shared, own, strict=True)]


def _with_first(ids_BT: Tensor, token: int) -> Tensor:
    """The texts with position 0 replaced, never prepended."""
    ids = ids_BT.clone()
    ids[:, 0] = token
    return ids
