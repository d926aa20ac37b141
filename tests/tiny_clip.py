"""A CLIP of `transformers` small enough for tests, with random weights of a useful size."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil


def tokenizer() -> transformers.CLIPTokenizer:
    """Every byte, every byte at the end of a word, and a few merges."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    merges = [("t", "h"), ("th", "e</w>"), ("a", "t</w>"), ("c", "at</w>"), ("d", "o"), ("do", "g</w>")]
    merged = ["".join(pair) for pair in merges]
    entries = [*letters, *(letter + "</w>" for letter in letters), *merged]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer({entry: n for n, entry in enumerate(entries)}, merges)


@torch.no_grad()
def network(width: int, layers: int, side: int = 32) -> transformers.CLIPModel:
    tokens = tokenizer()
    text: dict[str, Any] = {
        "vocab_size": len(tokens),
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 24,
        "bos_token_id": tokens.bos_token_id,
        "eos_token_id": tokens.eos_token_id,
        "pad_token_id": tokens.pad_token_id,
    }
    vision: dict[str, Any] = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "image_size": side,
        "patch_size": 8,
    }
    torch.manual_seed(width)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    made = transformers.CLIPModel(config).eval()
    for parameter in made.parameters():
        if parameter.ndim:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def save(directory: Path, processor: CLIPImageProcessorPil, width: int = 32, layers: int = 2) -> Path:
    network(width, layers).save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def processor_of(**settings: Any) -> CLIPImageProcessorPil:
    usual: dict[str, Any] = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return CLIPImageProcessorPil(**(usual | settings))
