"""Small checkpoints with random weights under the names that salesforce/BLIP gives its parameters.

Written from the reference's modules: `visual_encoder` is timm's ViT, `text_encoder` and `text_decoder.bert` are BERT
without token types, each layer with a `crossattention`. Nothing here knows the project's own names.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Two small towers; a head is 64 wide, as in the public networks."""

    vision: int = 64
    text: int = 128
    layers: int = 2
    patch: int = 8
    grid: int = 4
    vocabulary: int = 69  # as tests.tiny's tokenizer
    positions: int = 64
    projection: int = 32


def linear(name: str, outputs: int, inputs: int) -> State:
    return {
        f"{name}.weight": torch.randn(outputs, inputs) * 0.08,
        f"{name}.bias": torch.randn(outputs) * 0.05,
    }


def norm(name: str, width: int) -> State:
    return {f"{name}.weight": 1 + torch.randn(width) * 0.1, f"{name}.bias": torch.randn(width) * 0.05}


def visual_encoder(s: Sizes, prefix: str = "visual_encoder") -> State:
    state = {
        f"{prefix}.cls_token": torch.randn(1, 1, s.vision) * 0.5,
        f"{prefix}.pos_embed": torch.randn(1, s.grid**2 + 1, s.vision) * 0.5,
        f"{prefix}.patch_embed.proj.weight": torch.randn(s.vision, 3, s.patch, s.patch) * 0.08,
        f"{prefix}.patch_embed.proj.bias": torch.randn(s.vision) * 0.05,
    }
    for n in range(s.layers):
        block = f"{prefix}.blocks.{n}"
        state |= norm(f"{block}.norm1", s.vision)
        state |= linear(f"{block}.attn.qkv", 3 * s.vision, s.vision)
        state |= linear(f"{block}.attn.proj", s.vision, s.vision)
        state |= norm(f"{block}.norm2", s.vision)
        state |= linear(f"{block}.mlp.fc1", 4 * s.vision, s.vision)
        state |= linear(f"{block}.mlp.fc2", s.vision, 4 * s.vision)
    return state | norm(f"{prefix}.norm", s.vision)


def bert(s: Sizes, prefix: str, context: int, twin: bool = False, merged_from: int = 6) -> State:
    words = torch.randn(s.vocabulary, s.text) * 0.3
    state = {
        f"{prefix}.embeddings.position_ids": torch.arange(s.positions)[None],
        f"{prefix}.embeddings.word_embeddings.weight": words,
        f"{prefix}.embeddings.position_embeddings.weight": torch.randn(s.positions, s.text) * 0.3,
        **norm(f"{prefix}.embeddings.LayerNorm", s.text),
    }
    for n in range(s.layers):
        layer = f"{prefix}.encoder.layer.{n}"
        for part in ("query", "key", "value"):
            state |= linear(f"{layer}.attention.self.{part}", s.text, s.text)
        state |= linear(f"{layer}.attention.output.dense", s.text, s.text)
        state |= norm(f"{layer}.attention.output.LayerNorm", s.text)
        for number in ("0", "1") if twin else ("",):
            cross = f"{layer}.crossattention"
            state |= linear(f"{cross}.self{number}.query", s.text, s.text)
            state |= linear(f"{cross}.self{number}.key", s.text, context)
            state |= linear(f"{cross}.self{number}.value", s.text, context)
            state |= linear(f"{cross}.output.dense{number}", s.text, s.text)
        state |= norm(f"{layer}.crossattention.output.LayerNorm", s.text)
        if twin and n >= merged_from:
            state |= linear(f"{layer}.crossattention.output.merge_layer", s.text, 2 * s.text)
        state |= linear(f"{layer}.intermediate.dense", 4 * s.text, s.text)
        state |= linear(f"{layer}.output.dense", s.text, 4 * s.text)
        state |= norm(f"{layer}.output.LayerNorm", s.text)
    return state


def text_decoder(s: Sizes, context: int) -> State:
    state = bert(s, "text_decoder.bert", context)
    head, bias = "text_decoder.cls.predictions", torch.randn(s.vocabulary) * 0.1
    return {
        **state,
        f"{head}.bias": bias,
        **linear(f"{head}.transform.dense", s.text, s.text),
        **norm(f"{head}.transform.LayerNorm", s.text),
        f"{head}.decoder.weight": state["text_decoder.bert.embeddings.word_embeddings.weight"],
        f"{head}.decoder.bias": bias,
    }


def heads(s: Sizes) -> State:
    return {
        "temp": torch.tensor(0.05),
        **linear("vision_proj", s.projection, s.vision),
        **linear("text_proj", s.projection, s.text),
        **linear("itm_head", 2, s.text),
    }


def twins_and_queues(s: Sizes, pointer: str) -> State:
    return {
        **visual_encoder(s, "visual_encoder_m"),
        **linear("vision_proj_m", s.projection, s.vision),
        **bert(s, "text_encoder_m", s.vision),
        **linear("text_proj_m", s.projection, s.text),
        "image_queue": torch.randn(s.projection, 12),
        "text_queue": torch.randn(s.projection, 12),
        pointer: torch.zeros(1, dtype=torch.long),
    }


def pretrain(s: Sizes) -> State:
    """Tied as the reference ties: all that has a weight and is not within `attention` is one tensor for both."""
    encoder, decoder = bert(s, "text_encoder", s.vision), text_decoder(s, s.vision)
    for name in list(decoder):
        if name.startswith("text_decoder.bert.") and ".attention." not in name:
            decoder[name] = encoder[name.replace("text_decoder.bert", "text_encoder")]
    words = "text_decoder.bert.embeddings.word_embeddings.weight"
    decoder["text_decoder.cls.predictions.decoder.weight"] = decoder[words]
    return {
        **visual_encoder(s), **encoder, **heads(s), **twins_and_queues(s, "queue_ptr"), **decoder
    }  # fmt: skip


def retrieval(s: Sizes) -> State:
    extras = {**twins_and_queues(s, "ptr_queue"), "idx_queue": torch.full((1, 12), -100)}
    return {**visual_encoder(s), **bert(s, "text_encoder", s.vision), **heads(s), **extras}


def captioning(s: Sizes) -> State:
    return {**visual_encoder(s), **text_decoder(s, s.vision)}


def vqa(s: Sizes) -> State:
    return {**visual_encoder(s), **bert(s, "text_encoder", s.vision), **text_decoder(s, s.text)}


def nlvr(s: Sizes, merged_from: int = 1) -> State:
    encoder = bert(s, "text_encoder", s.vision, twin=True, merged_from=merged_from)
    return {
        **visual_encoder(s),
        **encoder,
        **linear("cls_head.0", s.text, s.text),
        **linear("cls_head.2", 2, s.text),
    }


WRITERS = {
    "pretrain": pretrain, "retrieval": retrieval, "captioning": captioning, "vqa": vqa, "nlvr": nlvr
}  # fmt: skip


def state_of(kind: str, sizes: Sizes | None = None, seed: int = 0) -> State:
    """The state of a kind of checkpoint; VQA's decoder reads text states, so both widths are one there."""
    torch.manual_seed(seed)
    return WRITERS[kind](sizes or (Sizes(vision=128) if kind == "vqa" else Sizes()))


def write(path: Path, state: State) -> Path:
    """Save as the reference does."""
    torch.save({"model": state}, path)
    return path
