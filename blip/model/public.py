"""The public BLIP checkpoints (`model_base.pth`, `model_large_retrieval_coco.pth`, ... of salesforce/BLIP).

    opened = open_public(Path("model_base_retrieval_coco.pth"))
    opened.network, opened.card, opened.report

What a file is and how large its network is are read off its keys and shapes: no name is trusted. A file loads whole or
not at all: what a tower lacks, what it has too much, and what has another shape is named. Kept out on purpose are
the momentum twins, the queues and the position counters; a head that files of its kind never have keeps its
initial values. All three are in the report.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Size, Tensor, nn

from blip.errors import BlipError
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.checkpoints import rename, split_fused
from blip.model.config_json import ModelCard
from blip.model.nlvr import NlvrConfig, NlvrNetwork
from blip.model.parts import part_of
from blip.model.pth import read_pth
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig, positions_for

# Our name -> the public one; other parts have the names that `transformers` took over.
VISION = [
    (r"^vision\.class_embedding$", "visual_encoder.cls_token"),
    (r"^vision\.position_embedding$", "visual_encoder.pos_embed"),
    (r"^vision\.patch_embedding\.", "visual_encoder.patch_embed.proj."),
    (r"^vision\.blocks\.(\d+)\.norm(\d)\.", r"visual_encoder.blocks.\1.norm\2."),
    (r"^vision\.blocks\.(\d+)\.qkv\.", r"visual_encoder.blocks.\1.attn.qkv."),
    (r"^vision\.blocks\.(\d+)\.projection\.", r"visual_encoder.blocks.\1.attn.proj."),
    (r"^vision\.blocks\.(\d+)\.(fc\d)\.", r"visual_encoder.blocks.\1.mlp.\2."),
    (r"^vision\.norm\.", "visual_encoder.norm."),
]
DROPPED = [
    (re.compile(r"^\w+_m\."), "momentum twins"),
    (re.compile(r"^(image|text|idx)_queue$|^(ptr_queue|queue_ptr)$"), "queues and their pointers"),
    (re.compile(r"\.embeddings\.(position_ids|token_type_ids)$"), "position counters"),
]
HEAD_SIZE = 64  # of every attention head in every public network, large or small
DECODER, WORDS = "text_decoder.bert", "embeddings.word_embeddings.weight"
LM_HEAD = "text_decoder.cls.predictions"
TOWERS = ("visual_encoder", "text_encoder", "text_decoder")


def public_vision(name: str) -> str:
    """The public name of one of the image encoder's weights, without the encoder's: timm's, from which it comes."""
    return public_name(f"vision.{name}").removeprefix("visual_encoder.")


@dataclass(frozen=True)
class Kind:
    """A kind of public file: its parts, and what the public code does with texts."""

    task: str
    parts: frozenset[str]
    max_tokens: int
    prompt: str = ""


HEADS = frozenset({"vision_proj", "text_proj", "itm_head", "temp"})
KINDS = {
    kind.task: kind
    for kind in (
        Kind("pretrain", HEADS.union(TOWERS), 30),
        Kind("retrieval", HEADS | {"visual_encoder", "text_encoder"}, 35),
        Kind("captioning", frozenset({"visual_encoder", "text_decoder"}), 40, "a picture of "),
        Kind("vqa", frozenset(TOWERS), 35),
        Kind("nlvr", frozenset({"visual_encoder", "text_encoder", "cls_head"}), 512),
    )
}


@dataclass(frozen=True)
class Report:
    """What became of a file.

    Attributes:
        image_size: pixels that the file's positions are for.
        missing: public names of weights that kept their initial values, because such a file never has them.
        unexpected: tensors outside the towers that nothing here uses.
        dropped: how many tensors were left out on purpose, by what they are.
        notes: what was settled, in words.
    """

    kind: str
    image_size: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    dropped: dict[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PublicModel:
    """An opened file."""

    network: BlipNetwork | NlvrNetwork
    card: ModelCard
    report: Report


def open_public(path: Path, image_size: int | None = None) -> PublicModel:
    """Open a public checkpoint.

    Args:
        image_size: positions are interpolated (bicubic, CLS kept) when it is not the file's own.

    Raises:
        BlipError: it cannot be opened safely, is no BLIP checkpoint, or would not load whole; each name is given.
    """
    state, others = read_pth(path)
    kind = _recognise(state, path)
    state, dropped = _set_aside(state)
    state, notes = _settle_output(state)
    vision, text = _vision_config(state, path), _text_config(state, path)
    own_size = vision.image_size
    vision = _resized(vision, image_size)
    if kind.task == "nlvr":
        network: BlipNetwork | NlvrNetwork = NlvrNetwork(NlvrConfig(vision, text, _merged_from(state, text)))
    else:
        differing = _differing(state)
        notes += _tie_notes(kind, differing)
        projection = len(state["vision_proj.bias"]) if "vision_proj.bias" in state else 256
        network = BlipNetwork(BlipConfig(vision, text, projection, tied=not differing))
    unexpected = _check(network, kind, state, path)
    missing = _fill(network, state)
    if others:
        dropped["beside the network: " + ", ".join(others)] = len(others)
    lacking = tuple(dict.fromkeys(map(part_of, missing)))
    card = ModelCard(kind.task, kind.prompt, min(kind.max_tokens, text.max_positions), missing=lacking)
    names = tuple(part for name in missing for part, _ in _places(network)[name])
    report = Report(kind.task, own_size, names, tuple(unexpected), dropped, tuple(notes))
    return PublicModel(network.eval(), card, report)


def public_name(name: str) -> str:
    """Our parameter name in the language of the public files; fused text projections keep ``qkv`` or ``kv``."""
    for pattern, replacement in VISION:
        renamed = re.sub(pattern, replacement, name)
        if renamed != name:
            return renamed
    return rename(name)


def _recognise(state: Mapping[str, Tensor], path: Path) -> Kind:
    parts = {name.split(".")[0] for name in state}
    texts = parts & {"text_encoder", "text_decoder"}
    if "visual_encoder" not in parts or not texts:
        shown = ", ".join(sorted(parts)[:8])
        theirs = "; these are names of transformers: give its directory" if "vision_model" in parts else ""
        raise BlipError(
            f"{path} is not a public BLIP checkpoint: it needs visual_encoder and text_encoder or text_decoder, "
            f"and has {shown}{theirs}"
        )
    if "cls_head" in parts or any(".crossattention.self0." in name for name in state):
        return KINDS["nlvr"]
    if len(texts) == 2:
        return KINDS["pretrain" if parts & HEADS else "vqa"]
    return KINDS["captioning" if "text_decoder" in texts else "retrieval"]


def _set_aside(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The state without what is left out on purpose, and how much that is."""
    kept, dropped = {}, Counter[str]()
    for name, tensor in state.items():
        reason = next((why for pattern, why in DROPPED if pattern.search(name)), None)
        if reason is None:
            kept[name] = tensor
        else:
            dropped[reason] += 1
    return kept, dict(dropped)


def _settle_output(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Take the LM head's output matrix and bias for the decoder's word embedding and bias, which they are tied to.

    Files name both. Pre-training tied the decoder's embedding to the encoder's and left the output matrix apart; the
    public captioning code has one for both, and its `load_state_dict` lets the output matrix win.
    """
    state, notes = dict(state), []
    for twin, name in (("decoder.weight", f"{DECODER}.{WORDS}"), ("decoder.bias", f"{LM_HEAD}.bias")):
        value = state.pop(f"{LM_HEAD}.{twin}", None)
        if value is None:
            continue
        if name in state and not torch.equal(value, state[name]):
            notes.append(f"{name} is that of {LM_HEAD}.{twin}, from which it differs in the file")
        state[name] = value
    return state, notes


def _differing(state: Mapping[str, Tensor]) -> list[str]:
    """Tensors that encoder and decoder would share, being all but self-attention, and that are not the same."""
    return [
        name
        for name, tensor in state.items()
        if name.startswith("text_encoder.")
        and ".attention." not in name
        and (other := state.get(name.replace("text_encoder", DECODER, 1))) is not None
        and not torch.equal(tensor, other)
    ]


def _tie_notes(kind: Kind, differing: list[str]) -> list[str]:
    if kind.task != "pretrain" or not differing:
        return []
    return [
        f"encoder and decoder differ in {len(differing)} tensors they could share ({differing[0]}): untied"
    ]


def _vision_config(state: Mapping[str, Tensor], path: Path) -> VisionConfig:
    width, _, patch, _ = _shape(state, "visual_encoder.patch_embed.proj.weight", 4, path)
    _, tokens, _ = _shape(state, "visual_encoder.pos_embed", 3, path)
    hidden = _shape(state, "visual_encoder.blocks.0.mlp.fc1.weight", 2, path)[0]
    grid = round((tokens - 1) ** 0.5)
    if grid * grid != tokens - 1:
        raise BlipError(
            f"{path}: visual_encoder.pos_embed has {tokens} rows, not a square of patches and CLS"
        )
    layers = _layers(state, r"^visual_encoder\.blocks\.(\d+)\.")
    return VisionConfig(grid * patch, patch, width, layers, _heads(width, path), hidden // width)


def _text_config(state: Mapping[str, Tensor], path: Path) -> TextConfig:
    side = "text_encoder" if any(name.startswith("text_encoder.") for name in state) else DECODER
    first = f"{side}.encoder.layer.0"
    twin = f"{first}.crossattention.self0.key.weight"
    key = twin if twin in state else f"{first}.crossattention.self.key.weight"
    vocabulary, width = _shape(state, f"{side}.{WORDS}", 2, path)
    return TextConfig(
        vocabulary,
        width,
        _layers(state, rf"^{re.escape(side)}\.encoder\.layer\.(\d+)\."),
        _heads(width, path),
        _shape(state, f"{first}.intermediate.dense.weight", 2, path)[0] // width,
        _shape(state, f"{side}.embeddings.position_embeddings.weight", 2, path)[0],
        context_width=_shape(state, key, 2, path)[1],
    )


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int, path: Path) -> Size:
    if name not in state:
        raise BlipError(f"{path}: {name} is missing, without which the network's size is unknown")
    if state[name].ndim != dimensions:
        raise BlipError(f"{path}: {name} has shape {tuple(state[name].shape)}, not {dimensions} dimensions")
    return state[name].shape


def _layers(state: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max(int(found[1]) for name in state if (found := re.match(pattern, name)))


def _heads(width: int, path: Path) -> int:
    if width % HEAD_SIZE:
        raise BlipError(f"{path}: width {width} is no multiple of {HEAD_SIZE}, the size of BLIP's heads")
    return width // HEAD_SIZE


def _resized(vision: VisionConfig, image_size: int | None) -> VisionConfig:
    if image_size is None:
        return vision
    if image_size < vision.patch_size or image_size % vision.patch_size:
        raise BlipError(f"image size {image_size} is no multiple of the patch size {vision.patch_size}")
    return VisionConfig(**{**vars(vision), "image_size": image_size})


def _merged_from(state: Mapping[str, Tensor], text: TextConfig) -> int:
    pattern = re.compile(r"\.layer\.(\d+)\.crossattention\.output\.merge_layer\.")
    return min((int(found[1]) for name in state if (found := pattern.search(name))), default=text.layers)


def _places(network: nn.Module) -> dict[str, list[tuple[str, Size]]]:
    """Where each of our tensors is in a public file: one name and shape, or those of a fused tensor's parts."""
    return {
        name: [(part, value.shape) for part, value in split_fused(public_name(name), tensor)]
        for name, tensor in network.state_dict().items()
    }


def _check(network: nn.Module, kind: Kind, state: Mapping[str, Tensor], path: Path) -> list[str]:
    """The names outside the towers that nothing uses. Raises BlipError for a load that would go wrong silently."""
    shapes = {part: shape for parts in _places(network).values() for part, shape in parts}
    shapes["visual_encoder.pos_embed"] = state["visual_encoder.pos_embed"].shape
    missing = [name for name in shapes if name.split(".")[0] in kind.parts and name not in state]
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(shape)}"
        for name, shape in shapes.items()
        if name in state and state[name].shape != shape and not state[name].numel() == shape.numel() == 1
    ]
    unknown = [name for name in state if name not in shapes]
    inside = [name for name in unknown if name.split(".")[0] in TOWERS]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
        for what, names in (("missing", missing), ("of another shape", wrong), ("unknown", inside))
        if names
    ]
    if problems:
        raise BlipError(f"{path} does not load whole as a {kind.task} checkpoint. " + "; ".join(problems))
    return [name for name in unknown if name not in inside]


def _fill(network: BlipNetwork | NlvrNetwork, state: Mapping[str, Tensor]) -> list[str]:
    """Copy the state into the network. Returns our names of the parameters that it does not have."""
    vision, places = network.config.vision, _places(network)
    filled: dict[str, Tensor] = {}
    for name, parts in places.items():
        if all(part in state for part, _ in parts):
            tensor = torch.cat([state[part] for part, _ in parts]) if len(parts) > 1 else state[parts[0][0]]
            filled[name] = tensor.float()
    grid = vision.image_size // vision.patch_size
    filled["vision.position_embedding"] = positions_for(filled["vision.position_embedding"], grid)
    for name in filled.keys() & {"temperature"}:
        filled[name] = filled[name].reshape(1)
    network.load_state_dict(filled, strict=False)
    named = list(network.named_parameters(remove_duplicate=False))  # a shared tensor under each of its names
    present = {id(parameter) for name, parameter in named if name in filled}
    return [name for name, parameter in network.named_parameters() if id(parameter) not in present]
