"""BLIP's training objective, slowly: one sample, one text, one pair, one key at a time.

Written from the definitions of the losses alone. Every text is encoded by itself, without padding; every image is
encoded again for each text it meets; the momentum twin is a second network whose weights are averaged one by one;
the queue is a list. Nothing of `blip.model.objectives`, `losses` or `momentum` is used.
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blip.model.blip import BlipNetwork

CLS, DEC, ENC = "cls", "dec", "enc"


@dataclass
class Pair:
    """An image ``[3, S, S]``, the ids of its text from ``[CLS]`` to ``[SEP]``, and the two groups it is of."""

    image: Tensor
    ids: list[int]
    group: tuple[int, int]

    def is_of(self, group: tuple[int, int]) -> bool:
        return self.group[0] == group[0] or self.group[1] == group[1]


@dataclass
class Key:
    """Momentum features of one pair."""

    image: Tensor
    text: Tensor
    group: tuple[int, int]


class Reference:
    """The slow objective; `weights` of the losses, `first` the ids that replace position 0."""

    def __init__(
        self,
        network: BlipNetwork,
        queue: list[Key],
        first: dict[str, int],
        *,
        weights: dict[str, float],
        momentum: float = 0.995,
        alpha: float = 0.4,
        alpha_ramp: float = 0.0,
        floor: float = 1e-4,
        random_share: float = 0.0,
        smoothing: float = 0.1,
    ) -> None:
        self.network, self.queue, self.first, self.weights = network, list(queue), first, weights
        self.momentum, self.alpha, self.alpha_ramp = momentum, alpha, alpha_ramp
        self.floor, self.random_share, self.smoothing = floor, random_share, smoothing
        self.twin = copy.deepcopy(network)

    def step(self, pairs: list[Pair], progress: float, prompt_tokens: int = 0) -> dict[str, Tensor]:
        """The losses of one training step; twin and queue move on."""
        losses: dict[str, Tensor] = {}
        if self.weights["itc"]:
            with torch.no_grad():
                self.network.temperature.copy_(min(max(self.network.temperature.item(), 0.001), 0.5))
                self._move_twin()
        if self.weights["itc"] or self.weights["itm"]:
            images = [self._image(self.network, pair) for pair in pairs]
            texts = [self._text(self.network, pair) for pair in pairs]
            with torch.no_grad():
                own = [Key(self._image(self.twin, p), self._text(self.twin, p), p.group) for p in pairs]
            if self.weights["itc"]:
                losses["itc"] = self._itc(pairs, images, texts, own, progress)
            if self.weights["itm"]:
                losses["itm"] = self._itm(pairs, images, texts, own)
            size = len(self.queue)
            self.queue = [*self.queue, *own][-size:] if size else []
        if self.weights["lm"]:
            losses["lm"] = self._lm(pairs, prompt_tokens)
        losses["loss"] = sum((self.weights[name] * loss for name, loss in losses.items()), torch.zeros(()))
        return losses

    def _move_twin(self) -> None:
        theirs = dict(self.network.named_parameters())
        for name, mine in self.twin.named_parameters():
            mine.copy_(self.momentum * mine + (1 - self.momentum) * theirs[name])

    def _image(self, network: BlipNetwork, pair: Pair) -> Tensor:
        projected = network.vision_projection(network.vision(pair.image[None])[0, 0])
        return projected / projected.norm()

    def _text(self, network: BlipNetwork, pair: Pair) -> Tensor:
        projected = network.text_projection(network.text_encoder(torch.tensor([pair.ids]), None)[0, 0])
        return projected / projected.norm()

    def _itc(
        self, pairs: list[Pair], images: list[Tensor], texts: list[Tensor], own: list[Key], progress: float
    ) -> Tensor:
        keys = [*own, *self.queue]
        alpha = self.alpha * (min(1.0, progress / self.alpha_ramp) if self.alpha_ramp else 1.0)
        total = torch.zeros(())
        for i, pair in enumerate(pairs):
            hard = [1.0 if pair.is_of(key.group) else 0.0 for key in keys]
            for query, momentum_query, candidates in (
                (images[i], own[i].image, [key.text for key in keys]),
                (texts[i], own[i].text, [key.image for key in keys]),
            ):
                t = self.network.temperature
                logits = [query @ candidate / t for candidate in candidates]
                with torch.no_grad():
                    soft = _softmax([momentum_query @ candidate / t for candidate in candidates])
                log_sum = torch.stack(logits).logsumexp(0)
                for logit, one, other in zip(logits, hard, soft, strict=True):
                    target = alpha * other + (1 - alpha) * one / sum(hard)
                    total = total - (target * (logit - log_sum)).squeeze() / len(pairs) / 2
        return total

    def _itm(self, pairs: list[Pair], images: list[Tensor], texts: list[Tensor], own: list[Key]) -> Tensor:
        """The draw: texts for all images, then images for all texts; candidate j is the one that comes first after
        a waiting time of rate ``weight[j]``, so that it is drawn with probability ``weight[j] / sum``."""
        total = torch.zeros(())
        for pair in pairs:
            total = total + self._match_loss(pair, pair)
        waits = [torch.empty(len(pairs), len(pairs)).exponential_() for _ in range(2)]
        for i, pair in enumerate(pairs):
            text = self._draw(i, pairs, images[i], [key.text for key in own], waits[0][i])
            image = self._draw(i, pairs, texts[i], [key.image for key in own], waits[1][i])
            total = total + self._match_loss(pair, pairs[text]) + self._match_loss(pairs[image], pair)
        return total / (3 * len(pairs))

    @torch.no_grad()
    def _draw(self, i: int, pairs: list[Pair], query: Tensor, keys: list[Tensor], waits: Tensor) -> int:
        weights = [
            w.item() + self.floor for w in _softmax([query @ k / self.network.temperature for k in keys])
        ]
        allowed = [0.0 if pairs[i].is_of(other.group) else 1.0 for other in pairs]
        if not any(allowed):
            return i
        weights = [weight * may for weight, may in zip(weights, allowed, strict=True)]
        chances = [
            (1 - self.random_share) * weight / sum(weights) + self.random_share * may / sum(allowed)
            for weight, may in zip(weights, allowed, strict=True)
        ]
        arrivals = [
            wait / chance if chance else math.inf
            for wait, chance in zip(waits.tolist(), chances, strict=True)
        ]
        return arrivals.index(min(arrivals))

    def _match_loss(self, image: Pair, text: Pair) -> Tensor:
        tokens = self.network.vision(image.image[None])
        context = self.network.text_encoder.project_context(tokens)
        ids = torch.tensor([[self.first[ENC], *text.ids[1:]]])
        logits = self.network.itm_head(self.network.text_encoder(ids, None, context)[0, 0])
        return logits.logsumexp(0) - logits[1 if image.is_of(text.group) else 0]

    def _lm(self, pairs: list[Pair], prompt_tokens: int) -> Tensor:
        """Every token after the prompt from those before it; of the target's share, some is spread over all."""
        losses = []
        for pair in pairs:
            tokens = self.network.vision(pair.image[None])
            context = self.network.text_decoder.project_context(tokens)
            read = torch.tensor([[self.first[DEC], *pair.ids[1:-1]]])
            states = self.network.text_decoder(read, None, context, causal=True)[0]
            for place in range(1, len(pair.ids)):
                if place < prompt_tokens:
                    continue
                logits = self.network.lm_head(states[place - 1], self.network.word_embedding)
                chances = logits - logits.logsumexp(0)
                right, any_token = chances[pair.ids[place]], chances.mean()
                losses.append(-(1 - self.smoothing) * right - self.smoothing * any_token)
        return torch.stack(losses).mean()


def _softmax(logits: list[Tensor]) -> list[Tensor]:
    highest = max(logit.item() for logit in logits)
    powers = [(logit - highest).exp() for logit in logits]
    return [power / sum(powers) for power in powers]
