"""Random BLIP models made and saved by `transformers`, in sizes that no two towers share."""

from pathlib import Path
from typing import Any

import torch
import transformers

from tests import tiny

SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "even": {
        "vision": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32},
        "text": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    },
    "deep image tower": {
        "vision": {"hidden_size": 48, "num_hidden_layers": 5, "num_attention_heads": 2, "image_size": 48},
        "text": {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 6},
    },
    "widths apart": {
        "vision": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 8, "image_size": 40},
        "text": {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3},
    },
    "other epsilons": {
        "vision": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32}
        | {"layer_norm_eps": 1e-2, "patch_size": 16},
        "text": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "layer_norm_eps": 3e-2},
    },
}


def config(size: str) -> transformers.BlipConfig:
    """The configuration of one of `SIZES`, with the token ids of the tests' tokenizer."""
    tokens = tiny.tokenizer()
    vision, text = SIZES[size]["vision"], SIZES[size]["text"]
    vision = {"patch_size": 8, "intermediate_size": 4 * vision["hidden_size"]} | vision
    text = {
        "vocab_size": len(tokens),
        "intermediate_size": 2 * text["hidden_size"],
        "max_position_embeddings": 64,
        "bos_token_id": tokens.bos,
        "sep_token_id": tokens.sep,
        "pad_token_id": tokens.pad,
    } | text
    return transformers.BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=20)


def make(kind: str, size: str, seed: int = 0, end: float = 0.0) -> Any:
    """A model of class `kind`, its weights large enough that inputs make a difference.

    `end` is added to the logit of the end token: the larger, the shorter its texts.
    """
    torch.manual_seed(seed)
    model = getattr(transformers, kind)(config(size)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
        if end:
            model.text_decoder.cls.predictions.bias[tiny.tokenizer().sep] += end
    return model


def save(model: Any, directory: Path) -> Path:
    """Write model, tokenizer and image processor as `transformers` writes them."""
    tiny.tokenizer().save(directory / "ours")
    model.save_pretrained(directory)
    transformers.BertTokenizer.from_pretrained(directory / "ours").save_pretrained(directory)
    side = model.config.vision_config.image_size
    processor = transformers.models.blip.image_processing_pil_blip.BlipImageProcessorPil
    processor(size={"height": side, "width": side}).save_pretrained(directory)
    return directory
