"""Model directories: config.json, model.safetensors, tokenizer, image processor.

A directory written here opens in `transformers` as BlipForConditionalGeneration, BlipForImageTextRetrieval and
BlipForQuestionAnswering, and one of theirs opens here. This file holds the names; nothing else knows them.
"""

import json
import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from blip.atomic import atomic_path
from blip.data.text import SpecialTokens, Tokenizer
from blip.errors import BlipError
from blip.model.blip import BlipNetwork
from blip.model.config_json import ModelCard, config_values, parse_config, read_config
from blip.model.parts import part_of
from blip.model.vision import positions_for

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
# Shared weights, of which a file may hold either name.
TIED = {
    "text_decoder.cls.predictions.decoder.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
}
LAYER = re.compile(r"^(vision_model|text_encoder|text_decoder)\..*\.layers?\.\d+\.")


def save_network(network: BlipNetwork, directory: Path, card: ModelCard, tokens: SpecialTokens) -> None:
    """Write weights, configuration and image processor into `directory` (which is made atomically by the caller)."""
    state = to_transformers(network, card.missing)
    write_files(directory, state, config_values(network.config, card, tokens))


def write_files(directory: Path, state: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write weights, config.json and the image processor for the size that the configuration has."""
    directory.mkdir(parents=True, exist_ok=True)
    write_weights(state, directory / WEIGHTS, metadata={"format": "pt"})
    processor = _processor_json(config["vision_config"]["image_size"])
    for name, value in (("config.json", config), ("preprocessor_config.json", processor)):
        (directory / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def load_network(directory: Path) -> tuple[BlipNetwork, ModelCard]:
    """Open a model directory.

    Raises:
        BlipError: a file is missing, or weights are missing or of another shape; each is named.
    """
    values, state = read_files(directory)
    config, card = parse_config(values, str(directory))
    if values.get("model_type") == "blip_nlvr":
        raise BlipError(
            f"{directory} is a model for NLVR2, which reads two images and writes nothing: "
            "blip.model.two_images.TwoImages opens it"
        )
    network = BlipNetwork(replace(config, tied=config.tied or _has_one_tower(state)))
    missing = load_transformers(network, state, str(directory))
    return network.eval(), replace(card, missing=tuple(dict.fromkeys(map(part_of, missing))))


def _has_one_tower(state: dict[str, Tensor]) -> bool:
    """Whether there is one text transformer only, beside which another of initial values would fill memory in vain."""
    return len({part_of(name) for name in state} & {"text_encoder", "text_decoder"}) == 1


def read_files(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the weights of a model directory. Raises BlipError for a file that is not there or cut."""
    values = read_config(directory)
    if not (directory / WEIGHTS).is_file():
        raise BlipError(
            f"{directory} is not a model directory: it has no {WEIGHTS}{_pickled(directory, values)}"
        )
    return values, read_weights(directory / WEIGHTS)


def write_weights(state: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file for whom any new file is for; the library makes its own for this account alone."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save_file(state, path, metadata=metadata)
    path.chmod(mode)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises BlipError if it is none, one that was cut, or that cannot be read."""
    with _reading(path):
        return load_file(path)


def weight_names(path: Path) -> list[str]:
    """The names of the tensors of a safetensors file, of which the header alone is read; raises as `read_weights`."""
    with _reading(path), safe_open(path, "pt") as file:
        return list(file.keys())


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say what is the matter with a safetensors file that the library does not read."""
    try:
        yield
    except OSError as error:  # of a file that may not be read the library says that there is none
        if path.exists() and not os.access(path, os.R_OK):
            raise BlipError(
                f"{path} cannot be read by this account; whose it is can allow it: chmod a+r {path}"
            ) from None
        raise BlipError(f"{path} cannot be read: {error}") from None
    except SafetensorError as error:
        size = path.stat().st_size
        raise BlipError(
            f"{path} of {size:,} bytes is truncated or damaged ({error}); copy it again"
        ) from None


def to_transformers(network: BlipNetwork, without: Collection[str] = ()) -> dict[str, Tensor]:
    """The state of a network under the names of `transformers`; shared weights are written for both sides.

    Args:
        without: parts to leave out, which hold initial values only.
    """
    state = renamed_state(network, without)
    if "temp" in state:
        state["temp"] = state["temp"].squeeze()
    for theirs, original in TIED.items():
        if original in state:
            state[theirs] = state[original].clone()
    return state


def renamed_state(network: nn.Module, without: Collection[str] = ()) -> dict[str, Tensor]:
    """The state of a network under the names of `rename`, float32, fused projections taken apart."""
    state: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        if part_of(name) in without:
            continue
        for theirs, value in split_fused(rename(name), tensor.detach().float()):
            state[theirs] = value.clone().contiguous()
    return state


def load_transformers(network: nn.Module, state: dict[str, Tensor], source: str) -> list[str]:
    """Fill a network from weights under the names of `transformers`.

    The parts a checkpoint does not have (a captioner has no ITM head) keep their initial values; positions are
    interpolated to this network's image size.

    Returns:
        the names that kept their initial values: all of a part or none.

    Raises:
        BlipError: a part is incomplete, a shape differs, there are layers the network does not have, or the
            checkpoint does not share what this network shares.
    """
    state = _untie(state, source)
    missing, wrong, filled = [], [], {}
    for name, current in network.state_dict().items():
        value = find_fused(rename(name), state)
        if value is None:
            missing.append(name)
            continue
        if name == "vision.position_embedding" and value.shape != current.shape:
            value = positions_for(value, round((current.shape[1] - 1) ** 0.5))
        if value.numel() == 1:
            value = value.reshape(current.shape)
        if value.shape != current.shape:
            wrong.append(f"{rename(name)}: {tuple(value.shape)} instead of {tuple(current.shape)}")
        else:
            filled[name] = value.to(current.dtype)
    wrong += _incomplete(missing, filled) + _superfluous(network, state)
    if wrong:
        raise BlipError(f"{source}: weights do not fit: " + "; ".join(wrong[:8]))
    network.load_state_dict(filled, strict=False)
    return missing


def _untie(state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The state with the weights that are shared under both of their names."""
    state = dict(state)
    for theirs, original in TIED.items():
        if original in state and theirs in state and not torch.equal(state[original], state[theirs]):
            raise BlipError(
                f"{source}: {theirs} differs from {original}; this network shares the two. Opened in transformers, "
                f"model.tie_weights() and then model.save_pretrained({source!r}) make them one, which changes what it "
                "writes"
            )
        if theirs in state:
            state.setdefault(original, state[theirs])
    return state


def _incomplete(missing: list[str], filled: dict[str, Tensor]) -> list[str]:
    """What is missing of the image encoder, or of a part that is there in pieces, or both text sides."""
    present = {part_of(name) for name in filled}
    lost = [f"{rename(name)} is missing" for name in missing if part_of(name) in {"vision", *present}]
    return (
        lost if present & {"text_encoder", "text_decoder"} else [*lost, "no text_encoder and no text_decoder"]
    )


def _superfluous(network: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Layers of the checkpoint beyond the network's depth, without which it would compute something else."""
    known = {part for name in network.state_dict() for part, _ in split_fused(rename(name), torch.empty(3))}
    return [
        f"{name} is of no layer in config.json" for name in state if LAYER.search(name) and name not in known
    ]


def _pickled(directory: Path, values: dict[str, Any]) -> str:
    """Other files of weights, and how `transformers` makes one of safetensors of them."""
    others = [path.name for path in (*directory.glob("*.bin"), *directory.glob("*.safetensors"))]
    if not others:
        return ""
    kinds = ((values.get("architectures") or ["BlipForConditionalGeneration"])[0], "BlipProcessor")
    made = [
        f"transformers.{kind}.from_pretrained({str(directory)!r}).save_pretrained('OUT')" for kind in kinds
    ]
    return f" (but {', '.join(sorted(others))}); save it as one safetensors file: {'; '.join(made)}"


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


def find_fused(name: str, state: dict[str, Tensor]) -> Tensor | None:
    """A tensor of a state in which query, key and value may be apart; None if it is not there."""
    parts = [state.get(part) for part, _ in split_fused(name, torch.empty(3))]
    if all(part is not None for part in parts):
        return torch.cat([part for part in parts if part is not None]) if len(parts) > 1 else parts[0]
    return None


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


def save_model(network: BlipNetwork, tokenizer: Tokenizer, directory: Path, card: ModelCard) -> None:
    """Write a whole model directory atomically; `tokenizer` writes its own files."""
    with atomic_path(directory) as temporary:
        save_network(network, temporary, card, tokenizer.special_tokens)
        tokenizer.save(temporary)
