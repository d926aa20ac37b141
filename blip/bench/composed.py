"""The paper's pre-training step made of `transformers` modules, as the published code runs it.

Texts are padded to 30 tokens, every forward is one of its own, negatives are drawn in a loop over the batch and the
momentum twin moves parameter by parameter. Encoder and decoder share what BLIP shares. `transformers` has no such
step; this is what one gets by following the paper with its modules.
"""

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from blip.bench.inputs import TOKENS
from blip.bench.workload import Setup
from blip.model.blip import BlipNetwork
from blip.model.checkpoints import save_network
from blip.model.config_json import ModelCard
from blip.model.precision import full_precision

PADDED = 30


def opened(network: BlipNetwork, name: str) -> nn.Module:
    """The class `name` of `transformers` with the weights of a network of ours, in training mode."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        save_network(network, Path(folder), ModelCard(), TOKENS)
        return getattr(transformers, name).from_pretrained(folder).train()


def their_reader(network: BlipNetwork, name: str, setup: Setup) -> Any:
    """The same to be read only, all of it in the setup's type: quicker than autocast, which casts in every call."""
    return (
        opened(network.cpu(), name).to(setup.device, getattr(torch, setup.dtype)).eval().requires_grad_(False)
    )


class ComposedObjective(nn.Module):
    """ITC with momentum twin and queue, ITM with hard negatives, LM: what the paper computes for a batch."""

    image_queue: Tensor
    text_queue: Tensor

    def __init__(self, network: BlipNetwork, queue: int, seed: int) -> None:
        super().__init__()
        matcher: Any = opened(network, "BlipForImageTextRetrieval")
        writer: Any = opened(network, "BlipForConditionalGeneration")
        self.vision, self.text, self.decoder = matcher.vision_model, matcher.text_encoder, writer.text_decoder
        self.vision_projection, self.text_projection = matcher.vision_proj, matcher.text_proj
        self.itm_head = matcher.itm_head
        self._share()
        self.towers = ("vision", "text", "vision_projection", "text_projection")
        self.twin = nn.ModuleDict({name: copy.deepcopy(getattr(self, name)) for name in self.towers})
        self.twin.requires_grad_(False)
        self.temperature = nn.Parameter(torch.tensor(0.07))
        self.decoder.label_smoothing = 0.1
        torch.manual_seed(seed)
        width = network.config.projection
        self.register_buffer("image_queue", F.normalize(torch.randn(queue, width), dim=-1))
        self.register_buffer("text_queue", F.normalize(torch.randn(queue, width), dim=-1))
        self.pointer = 0

    def _share(self) -> None:
        self.decoder.bert.embeddings = self.text.embeddings
        self.decoder.cls.predictions.decoder.weight = self.text.embeddings.word_embeddings.weight
        for ours, theirs in zip(self.decoder.bert.encoder.layer, self.text.encoder.layer, strict=True):
            ours.crossattention, ours.intermediate, ours.output = (
                theirs.crossattention,
                theirs.intermediate,
                theirs.output,
            )

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The losses ``itc``, ``itm``, ``lm`` and their sum ``loss``; the alpha of the soft targets is 0.4."""
        tokens = self.vision(images).last_hidden_state
        seen = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
        image = F.normalize(self.vision_projection(tokens[:, 0]).float(), dim=-1)
        text = self.text(ids, attention_mask=mask).last_hidden_state
        text = F.normalize(self.text_projection(text[:, 0]).float(), dim=-1)
        itc, weights = self._contrast(images, ids, mask, image, text)
        itm = self._match(ids, mask, tokens, seen, weights)
        lm = self._write(ids, mask, tokens, seen)
        return {"itc": itc, "itm": itm, "lm": lm, "loss": itc + itm + lm}

    def _contrast(
        self, images: Tensor, ids: Tensor, mask: Tensor, image: Tensor, text: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch = len(ids)
        with torch.no_grad():
            self.temperature.clamp_(0.001, 0.5)
            self._move()
            image_m = self.twin["vision"](images).last_hidden_state
            image_m = F.normalize(self.twin["vision_projection"](image_m[:, 0]).float(), dim=-1)
            text_m = self.twin["text"](ids, attention_mask=mask).last_hidden_state
            text_m = F.normalize(self.twin["text_projection"](text_m[:, 0]).float(), dim=-1)
            images_all, texts_all = (
                torch.cat((image_m, self.image_queue)),
                torch.cat((text_m, self.text_queue)),
            )
            diagonal = torch.eye(batch, len(images_all), device=ids.device)
            i2t = 0.4 * (image_m @ texts_all.T / self.temperature).softmax(1) + 0.6 * diagonal
            t2i = 0.4 * (text_m @ images_all.T / self.temperature).softmax(1) + 0.6 * diagonal
        with full_precision(image):
            sim_i2t, sim_t2i = image @ texts_all.T / self.temperature, text @ images_all.T / self.temperature
        loss = (
            -((sim_i2t.log_softmax(1) * i2t).sum(1).mean() + (sim_t2i.log_softmax(1) * t2i).sum(1).mean()) / 2
        )
        with torch.no_grad():
            self._push(image_m, text_m)
            negatives = []
            for similarity in (sim_i2t, sim_t2i):
                weights = similarity[:, :batch].softmax(1) + 1e-4
                negatives.append(weights.fill_diagonal_(0))
        return loss, (negatives[0], negatives[1])

    def _move(self) -> None:
        for name in self.towers:
            own, theirs = self.twin[name].parameters(), getattr(self, name).parameters()
            for average, parameter in zip(own, theirs, strict=True):
                average.data = average.data * 0.995 + parameter.data * (1 - 0.995)

    def _push(self, image: Tensor, text: Tensor) -> None:
        end = self.pointer + len(image)
        self.image_queue[self.pointer : end], self.text_queue[self.pointer : end] = image, text
        self.pointer = end % len(self.image_queue)

    def _match(
        self, ids: Tensor, mask: Tensor, tokens: Tensor, seen: Tensor, weights: tuple[Tensor, Tensor]
    ) -> Tensor:
        ids = ids.clone()
        ids[:, 0] = TOKENS.encode
        matched = self._states(ids, mask, tokens, seen)
        wrong_images = torch.stack([tokens[int(torch.multinomial(row, 1).item())] for row in weights[1]])
        draws = [int(torch.multinomial(row, 1).item()) for row in weights[0]]
        wrong_ids, wrong_mask = torch.stack([ids[n] for n in draws]), torch.stack([mask[n] for n in draws])
        negative = self._states(
            torch.cat((ids, wrong_ids)), torch.cat((mask, wrong_mask)),
            torch.cat((wrong_images, tokens)), torch.cat((seen, seen)),
        )  # fmt: skip
        logits = self.itm_head(torch.cat((matched, negative)))
        labels = torch.cat((torch.ones(len(ids)), torch.zeros(2 * len(ids)))).long().to(ids.device)
        return F.cross_entropy(logits.float(), labels)

    def _states(self, ids: Tensor, mask: Tensor, tokens: Tensor, seen: Tensor) -> Tensor:
        output = self.text(
            ids, attention_mask=mask, encoder_hidden_states=tokens, encoder_attention_mask=seen
        )
        return output.last_hidden_state[:, 0]

    def _write(self, ids: Tensor, mask: Tensor, tokens: Tensor, seen: Tensor) -> Tensor:
        ids = ids.clone()
        ids[:, 0] = TOKENS.decode
        labels = ids.masked_fill(ids == TOKENS.pad, -100)
        return self.decoder(
            ids, attention_mask=mask, encoder_hidden_states=tokens, encoder_attention_mask=seen, labels=labels
        ).loss
