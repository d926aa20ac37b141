"""config.json of a model directory: the sizes of the network as `transformers` names them, and a section of our own.

What the file says is what is computed: a value this network does not have (another activation, an image that is
not square) is refused by name, because the weights would fit and the outputs would be others.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blip.config.dvc_yaml import way_to
from blip.data.text import SpecialTokens
from blip.errors import BlipError
from blip.model.blip import BlipConfig
from blip.model.config_fields import Fields
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig

Values = dict[str, Any]
SHORTEST = 3  # tokens of a text of one, between the two that every text has


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
    missing: tuple[str, ...] = ()

    @property
    def answers(self) -> bool:
        """Whether it was trained to answer questions: its decoder reads them, and no image."""
        return self.task.endswith("vqa")


def config_values(config: BlipConfig, card: ModelCard, tokens: SpecialTokens) -> Values:
    """What config.json holds."""
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
            "bos_token_id": tokens.decode,
            "eos_token_id": tokens.sep,
            "pad_token_id": tokens.pad,
            "sep_token_id": tokens.sep,
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
            "tied": config.tied,
            "drop_path": vision.drop_path,
            "enc_token_id": tokens.encode,
        },
    }


def read_values(directory: Path) -> Values:
    """What the config.json of a model directory says.

    Raises:
        BlipError: there is none, or it is no JSON object.
    """
    path = directory / "config.json"
    if not directory.exists():
        raise BlipError(f"{directory}: no such model directory; {way_to(directory)}")
    if not path.is_file():
        raise BlipError(f"{directory} is not a model directory: it has no config.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BlipError(f"{path} is no JSON: {error}") from None
    Fields(values, str(path))
    return values


def read_config(directory: Path) -> Values:
    """The config.json of a BLIP model directory.

    Raises:
        BlipError: there is none, it is no JSON object, or the model is of another kind.
    """
    values = read_values(directory)
    kind = values.get("model_type", "blip")
    if kind not in ("blip", "blip_nlvr"):
        other = "; blip.load_clip opens it" if kind == "clip" else ""
        raise BlipError(f"{directory}: model_type is {kind!r}, not 'blip'{other}")
    return values


def parse_config(values: Values, source: str) -> tuple[BlipConfig, ModelCard]:
    """The network and the card that config.json describes; what it leaves out has the default of `transformers`.

    Raises:
        BlipError: a value this network does not have, or of a kind that is no number or text; it is named.
    """
    where = f"{source}/config.json"
    fields = Fields(values, where)
    text, vision, own = (fields.section(name) for name in ("text_config", "vision_config", "blip"))
    try:
        vision_config = _vision(vision, own)
        text_config = _text(text, vision_config.width)
    except ValueError as error:
        raise BlipError(f"{where}: {error}") from None
    its_class = "vqa" if "BlipForQuestionAnswering" in (values.get("architectures") or ()) else "pretrain"
    card = ModelCard(
        task=own.text("task", its_class),
        prompt=own.text("prompt", ""),
        max_tokens=min(own.whole("max_tokens", 35, SHORTEST), text_config.max_positions),
    )
    projection = fields.whole("image_text_hidden_size", 256)
    return BlipConfig(vision_config, text_config, projection, tied=own.flag("tied", False)), card


def check_tokens(directory: Path, tokens: SpecialTokens) -> None:
    """Refuse a tokenizer whose ids are not those the network was trained with.

    Raises:
        BlipError: an id differs; texts would begin or end with a token that means something else.
    """
    text = read_config(directory).get("text_config", {})
    for name, default, own in (
        ("pad", 0, tokens.pad),
        ("sep", 102, tokens.sep),
        ("bos", 30522, tokens.decode),
    ):
        expected = text.get(f"{name}_token_id", default)
        if expected != own:
            raise BlipError(
                f"{directory}: config.json has {name}_token_id {expected}, the tokenizer's is {own}; "
                "use the tokenizer the model was trained with"
            )


def _vision(fields: Fields, own: Fields) -> VisionConfig:
    _check_activation(fields)
    width = fields.whole("hidden_size", 768)
    return VisionConfig(
        image_size=fields.side("image_size", 384),
        patch_size=fields.side("patch_size", 16),
        width=width,
        layers=fields.whole("num_hidden_layers", 12),
        heads=fields.whole("num_attention_heads", 12),
        mlp_ratio=_ratio(fields, width),
        drop_path=own.share("drop_path", 0.0),
        norm_eps=fields.share("layer_norm_eps", 1e-5),
    )


def _text(fields: Fields, context_width: int) -> TextConfig:
    _check_activation(fields)
    width = fields.whole("hidden_size", 768)
    return TextConfig(
        vocabulary=fields.whole("vocab_size", 30524),
        width=width,
        layers=fields.whole("num_hidden_layers", 12),
        heads=fields.whole("num_attention_heads", 8),
        mlp_ratio=_ratio(fields, width),
        max_positions=fields.whole("max_position_embeddings", 512, SHORTEST),
        dropout=fields.share("hidden_dropout_prob", 0.0),
        context_width=context_width,
        norm_eps=fields.share("layer_norm_eps", 1e-12),
    )


def _check_activation(fields: Fields) -> None:
    if fields.text("hidden_act", "gelu") != "gelu":
        fields.refuse("hidden_act", "this network computes 'gelu' (exact) only")


def _ratio(fields: Fields, width: int) -> int:
    inner = fields.whole("intermediate_size", 3072)
    if inner % width:
        fields.refuse("intermediate_size", f"that is no multiple of hidden_size {width}")
    return inner // width
