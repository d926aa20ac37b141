"""Model directories: config.json, model.safetensors, tokenizer, image processor.

A directory written here opens in `transformers` as BlipForConditionalGeneration, BlipForImageTextRetrieval and
BlipForQuestionAnswering, and one of theirs opens here. This file holds the names; nothing else knows them.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from blip.atomic import atomic_path
from blip.errors import BlipError
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig, positions_for

if TYPE_CHECKING:
    from blip.model.nlvr import NlvrNetwork

WEIGHTS = "model.safetensors"

# Our name -> the name in transformers, tried in order; each pair holds for weight and bias alike.
RENAMES = [
    (r"^vision\.patch_embedding\.", "vision_model.embeddings.patch_embedding."),
    (r"^vision\.(class|position)_embedding$", r"vision_model.embeddings.\1_embedding"),
    (r"^vision\.blocks\.(\d+)\.norm(\d)\.", r"vision_model.encoder.layers.\1.layer_norm\2."),
    (r"^vision\.blocks\.(\d+)\.(qkv|projection)\.", r"vision_model.encoder.layers.\1.self_attn.\2."),
    (r"^vision\.blocks\.(\d+)\.(fc\d)\.", r"vision_model.encoder.layers.\1.mlp.\2."),
    (r"^vision\.norm\.", "vision_model.post_layernorm."),
    (r"^vision_projection\.", "vision_proj."),
    (r"^text_projection\.", "text_proj."),
    (r"^temperature$", "temp"),
    (r"^lm_head\.bias$", "text_decoder.cls.predictions.bias"),
    (r"^lm_head\.dense\.", "text_decoder.cls.predictions.transform.dense."),
    (r"^lm_head\.norm\.", "text_decoder.cls.predictions.transform.LayerNorm."),
    (r"^text_decoder\.", "text_decoder.bert."),
]
TEXT_RENAMES = [
    (r"embeddings\.(word|position)\.", r"embeddings.\1_embeddings."),
    (r"embeddings\.norm\.", "embeddings.LayerNorm."),
    (r"layers\.(\d+)\.self_attention\.output\.", r"encoder.layer.\1.attention.output."),
    (r"layers\.(\d+)\.self_attention\.", r"encoder.layer.\1.attention.self."),
    (
        r"layers\.(\d+)\.cross_attention\.image(\d)\.output\.dense\.",
        r"encoder.layer.\1.crossattention.output.dense\2.",
    ),
    (r"layers\.(\d+)\.cross_attention\.image(\d)\.", r"encoder.layer.\1.crossattention.self\2."),
    (r"layers\.(\d+)\.cross_attention\.merge\.", r"encoder.layer.\1.crossattention.output.merge_layer."),
    (r"layers\.(\d+)\.cross_attention\.norm\.", r"encoder.layer.\1.crossattention.output.LayerNorm."),
    (r"layers\.(\d+)\.cross_attention\.output\.", r"encoder.layer.\1.crossattention.output."),
    (r"layers\.(\d+)\.cross_attention\.", r"encoder.layer.\1.crossattention.self."),
    (r"layers\.(\d+)\.feed_forward\.up\.", r"encoder.layer.\1.intermediate.dense."),
    (r"layers\.(\d+)\.feed_forward\.output\.", r"encoder.layer.\1.output."),
    (r"output\.norm\.", "output.LayerNorm."),
]
FUSED = {
    "attention.self.qkv": ("query", "key", "value"),
    "crossattention.self.kv": ("key", "value"),
    "crossattention.self0.kv": ("key", "value"),  # NLVR2 has a cross-attention for each image
    "crossattention.self1.kv": ("key", "value"),
}


@dataclass(frozen=True)
class ModelCard:
    """What a model directory says beside the network: what it was trained for and how to call it."""

    task: str = "pretrain"
    prompt: str = ""
    max_tokens: int = 30
    answers: tuple[str, ...] = ()


def save_network(network: BlipNetwork, directory: Path, card: ModelCard, tokens: dict[str, int]) -> None:
    """Write weights, configuration and image processor into `directory` (which is made atomically by the caller).

    Args:
        tokens: ids of ``pad``, ``sep``, ``bos`` and ``enc``.
    """
    write_files(directory, to_transformers(network), config_json(network.config, card, tokens))


def write_files(directory: Path, state: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write weights, config.json and the image processor for the size that the configuration has."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file(state, directory / WEIGHTS, metadata={"format": "pt"})
    processor = _processor_json(config["vision_config"]["image_size"])
    for name, value in (("config.json", config), ("preprocessor_config.json", processor)):
        (directory / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def load_network(directory: Path) -> tuple[BlipNetwork, ModelCard]:
    """Open a model directory.

    Raises:
        BlipError: a file is missing, or weights are missing or of another shape; each is named.
    """
    values, state = read_files(directory)
    config, card = parse_config(values)
    if card.task == "nlvr":
        raise BlipError(
            f"{directory} is a model for NLVR2, which reads two images and writes nothing: "
            "blip.model.nlvr.load_nlvr opens it"
        )
    network = BlipNetwork(config)
    load_transformers(network, state, str(directory))
    return network.eval(), card


def read_files(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the weights of a model directory. Raises BlipError for a file that is not there."""
    for name in ("config.json", WEIGHTS):
        if not (directory / name).is_file():
            raise BlipError(f"{directory} is not a model directory: it has no {name}")
    values = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return values, load_file(directory / WEIGHTS)


def to_transformers(network: BlipNetwork) -> dict[str, Tensor]:
    """The state of a network under the names of `transformers`; shared weights are written for both sides."""
    state = renamed_state(network)
    state["temp"] = state["temp"].squeeze()
    state["text_decoder.cls.predictions.decoder.weight"] = network.word_embedding.detach().float().clone()
    state["text_decoder.cls.predictions.decoder.bias"] = network.lm_head.bias.detach().float().clone()
    return state


def renamed_state(network: nn.Module) -> dict[str, Tensor]:
    """The state of a network under the names of `rename`, float32, fused projections taken apart."""
    state: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        for theirs, value in split_fused(rename(name), tensor.detach().float()):
            state[theirs] = value.clone().contiguous()
    return state


def load_transformers(
    network: "BlipNetwork | NlvrNetwork", state: dict[str, Tensor], source: str
) -> list[str]:
    """Fill a network from weights under the names of `transformers`.

    The heads a checkpoint does not have (a captioner has no ITM head) keep their initial values; positions are
    interpolated to this network's image size.

    Returns:
        the names that kept their initial values.

    Raises:
        BlipError: a tower is incomplete or a shape differs.
    """
    ours = network.state_dict()
    missing, wrong, filled = [], [], {}
    for name, current in ours.items():
        value = _find(rename(name), state)
        if value is None:
            missing.append(name)
            continue
        if name == "vision.position_embedding" and value.shape != current.shape:
            value = positions_for(value, network.config.vision.image_size // network.config.vision.patch_size)
        if value.numel() == 1:
            value = value.reshape(current.shape)
        if value.shape != current.shape:
            wrong.append(f"{rename(name)}: {tuple(value.shape)} instead of {tuple(current.shape)}")
        else:
            filled[name] = value.to(current.dtype)
    required = [name for name in missing if name.startswith("vision.")]
    if required or wrong:
        raise BlipError(f"{source}: weights do not fit: " + "; ".join((wrong + required)[:8]))
    network.load_state_dict(filled, strict=False)
    return missing


def load_starting_vision(network: BlipNetwork, path: Path) -> None:
    """Fill the image encoder from starting weights (safetensors, our own names)."""
    if not path.is_file():
        raise BlipError(f"{path}: no such file; model.start names the vision starting weights, or is null")
    state = {name: tensor.float() for name, tensor in load_file(path).items()}
    vision = network.config.vision
    state["position_embedding"] = positions_for(
        state["position_embedding"], vision.image_size // vision.patch_size
    )
    try:
        network.vision.load_state_dict(state)
    except RuntimeError as error:
        raise BlipError(f"{path} does not fit the model's vision settings: {error}") from None


def rename(name: str) -> str:
    """Our parameter name in the language of `transformers`; fused projections keep ``qkv`` or ``kv``."""
    if name.startswith(("text_encoder.", "text_decoder.")):
        for pattern, replacement in TEXT_RENAMES:
            name = re.sub(pattern, replacement, name)
    for pattern, replacement in RENAMES:
        renamed = re.sub(pattern, replacement, name)
        if renamed != name:
            return renamed
    return name


def split_fused(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """A tensor under the names that its parts have where query, key and value are apart."""
    for fused, parts in FUSED.items():
        if f".{fused}." in name:
            stem = fused.rsplit(".", 1)[0]
            names = [name.replace(fused, f"{stem}.{part}") for part in parts]
            return list(zip(names, tensor.chunk(len(parts)), strict=True))
    return [(name, tensor)]


def _find(name: str, state: dict[str, Tensor]) -> Tensor | None:
    parts = [state.get(part) for part, _ in split_fused(name, torch.empty(3))]
    if all(part is not None for part in parts):
        return torch.cat([part for part in parts if part is not None]) if len(parts) > 1 else parts[0]
    return None


def config_json(config: BlipConfig, card: ModelCard, tokens: dict[str, int]) -> dict[str, Any]:
    """What config.json says, in the words of `transformers`; what they have no word for is under ``blip``."""
    text, vision = config.text, config.vision
    return {
        "architectures": ["BlipForConditionalGeneration"],
        "model_type": "blip",
        "projection_dim": config.projection,
        "image_text_hidden_size": config.projection,
        "initializer_factor": 1.0,
        "text_config": {
            "model_type": "blip_text_model",
            "vocab_size": text.vocabulary,
            "hidden_size": text.width,
            "encoder_hidden_size": text.context_width,
            "intermediate_size": text.width * text.mlp_ratio,
            "projection_dim": config.projection,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.max_positions,
            "hidden_dropout_prob": text.dropout,
            "attention_probs_dropout_prob": 0.0,
            "layer_norm_eps": 1e-12,
            "hidden_act": "gelu",
            "bos_token_id": tokens["bos"],
            "eos_token_id": tokens["sep"],
            "pad_token_id": tokens["pad"],
            "sep_token_id": tokens["sep"],
        },
        "vision_config": {
            "model_type": "blip_vision_model",
            "hidden_size": vision.width,
            "intermediate_size": vision.width * vision.mlp_ratio,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "attention_dropout": 0.0,
        },
        "blip": {
            "task": card.task,
            "prompt": card.prompt,
            "max_tokens": card.max_tokens,
            "answers": list(card.answers),
            "tied": config.tied,
            "drop_path": vision.drop_path,
            "enc_token_id": tokens["enc"],
        },
    }


def parse_config(values: dict[str, Any]) -> tuple[BlipConfig, ModelCard]:
    """The sizes and the card that a config.json states, ours or one of `transformers`."""
    text, vision, own = values.get("text_config", {}), values.get("vision_config", {}), values.get("blip", {})
    vision_config = VisionConfig(
        image_size=vision.get("image_size", 384),
        patch_size=vision.get("patch_size", 16),
        width=vision.get("hidden_size", 768),
        layers=vision.get("num_hidden_layers", 12),
        heads=vision.get("num_attention_heads", 12),
        mlp_ratio=vision.get("intermediate_size", 3072) // vision.get("hidden_size", 768),
        drop_path=own.get("drop_path", 0.0),
    )
    text_config = TextConfig(
        vocabulary=text.get("vocab_size", 30524),
        width=text.get("hidden_size", 768),
        layers=text.get("num_hidden_layers", 12),
        heads=text.get("num_attention_heads", 8),
        mlp_ratio=text.get("intermediate_size", 3072) // text.get("hidden_size", 768),
        max_positions=text.get("max_position_embeddings", 512),
        dropout=text.get("hidden_dropout_prob", 0.0),
        context_width=text.get("encoder_hidden_size", vision_config.width),
    )
    projection = values.get("image_text_hidden_size", 256)
    card = ModelCard(
        task=own.get("task", "pretrain"),
        prompt=own.get("prompt", ""),
        max_tokens=own.get("max_tokens", 35),
        answers=tuple(own.get("answers", ())),
    )
    return BlipConfig(vision_config, text_config, projection, tied=own.get("tied", False)), card


def _processor_json(size: int) -> dict[str, Any]:
    return {
        "image_processor_type": "BlipImageProcessor",
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "do_convert_rgb": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }


def save_model(
    network: BlipNetwork, tokenizer: Any, directory: Path, card: ModelCard, tokens: dict[str, int]
) -> None:
    """Write a whole model directory atomically; `tokenizer` writes its own files."""
    with atomic_path(directory) as temporary:
        save_network(network, temporary, card, tokens)
        tokenizer.save(temporary)
