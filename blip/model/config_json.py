"""config.json of a model directory: the sizes of the network as `transformers` names them, and a section of our own.

What the file says is what is computed: a value this network does not have (another activation, an image that is
not square) is refused by name, because the weights would fit and the outputs would be others.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blip.errors import BlipError
from blip.model.blip import BlipConfig
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig

Values = dict[str, Any]


@dataclass(frozen=True)
class ModelCard:
    """What a model directory says beside the network: what it was trained for and how to call it.

    Attributes:
        missing: parts of the network the weights file does not have (a captioner has no ``itm_head``). They hold
            initial values, no result is computed with them and they are not saved.
    """

    task: str = "pretrain"
    prompt: str = ""
    max_tokens: int = 30
    answers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def config_values(config: BlipConfig, card: ModelCard, tokens: dict[str, int]) -> Values:
    """What config.json holds.

    Args:
        tokens: ids of ``pad``, ``sep``, ``bos`` and ``enc``.
    """
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
            "layer_norm_eps": text.norm_eps,
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
            "layer_norm_eps": vision.norm_eps,
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


def read_config(directory: Path) -> Values:
    """The config.json of a BLIP model directory.

    Raises:
        BlipError: there is none, it is no JSON, or the model is of another kind.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise BlipError(f"{directory} is not a model directory: it has no config.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BlipError(f"{path} is no JSON: {error}") from None
    kind = values.get("model_type", "blip")
    if kind not in ("blip", "blip_nlvr"):
        other = "; blip.load_clip opens it" if kind == "clip" else ""
        raise BlipError(f"{directory}: model_type is {kind!r}, not 'blip'{other}")
    return values


def parse_config(values: Values, source: str) -> tuple[BlipConfig, ModelCard]:
    """The network and the card that config.json describes; what it leaves out has the default of `transformers`.

    Raises:
        BlipError: a value this network does not have; it is named.
    """
    text, vision, own = values.get("text_config", {}), values.get("vision_config", {}), values.get("blip", {})
    for name, section in (("text_config", text), ("vision_config", vision)):
        _check_activation(section, f"{source}: {name}")
    try:
        vision_config = _vision(vision, own, f"{source}: vision_config")
        text_config = _text(text, vision_config.width, f"{source}: text_config")
    except ValueError as error:
        raise BlipError(f"{source}: config.json: {error}") from None
    card = ModelCard(
        task=own.get("task", "pretrain"),
        prompt=own.get("prompt", ""),
        max_tokens=min(own.get("max_tokens", 35), text_config.max_positions),
        answers=tuple(own.get("answers", ())),
    )
    projection = values.get("image_text_hidden_size", 256)
    return BlipConfig(vision_config, text_config, projection, tied=own.get("tied", False)), card


def check_tokens(directory: Path, tokens: dict[str, int]) -> None:
    """Refuse a tokenizer whose ids are not those the network was trained with.

    Args:
        tokens: the tokenizer's ids of ``pad``, ``sep`` and ``bos``.

    Raises:
        BlipError: an id differs; texts would begin or end with a token that means something else.
    """
    text = read_config(directory).get("text_config", {})
    for name, default in (("pad", 0), ("sep", 102), ("bos", 30522)):
        expected = text.get(f"{name}_token_id", default)
        if expected != tokens[name]:
            raise BlipError(
                f"{directory}: config.json has {name}_token_id {expected}, the tokenizer's is {tokens[name]}; "
                "use the tokenizer the model was trained with"
            )


def _vision(values: Values, own: Values, where: str) -> VisionConfig:
    width = values.get("hidden_size", 768)
    return VisionConfig(
        image_size=_side(values.get("image_size", 384), f"{where}.image_size"),
        patch_size=_side(values.get("patch_size", 16), f"{where}.patch_size"),
        width=width,
        layers=values.get("num_hidden_layers", 12),
        heads=values.get("num_attention_heads", 12),
        mlp_ratio=_ratio(values, width, where),
        drop_path=own.get("drop_path", 0.0),
        norm_eps=values.get("layer_norm_eps", 1e-5),
    )


def _text(values: Values, context_width: int, where: str) -> TextConfig:
    width = values.get("hidden_size", 768)
    return TextConfig(
        vocabulary=values.get("vocab_size", 30524),
        width=width,
        layers=values.get("num_hidden_layers", 12),
        heads=values.get("num_attention_heads", 8),
        mlp_ratio=_ratio(values, width, where),
        max_positions=values.get("max_position_embeddings", 512),
        dropout=values.get("hidden_dropout_prob", 0.0),
        context_width=context_width,
        norm_eps=values.get("layer_norm_eps", 1e-12),
    )


def _check_activation(section: Values, where: str) -> None:
    activation = section.get("hidden_act", "gelu")
    if activation != "gelu":
        raise BlipError(f"{where}.hidden_act is {activation!r}; this network computes 'gelu' (exact) only")


def _ratio(section: Values, width: int, where: str) -> int:
    inner = section.get("intermediate_size", 3072)
    if inner % width:
        raise BlipError(f"{where}.intermediate_size {inner} is no multiple of hidden_size {width}")
    return inner // width


def _side(size: int | list[int], where: str) -> int:
    """A number of pixels, or the same one twice."""
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise BlipError(f"{where} is {size}; this network takes square images only")
    return sides.pop()
