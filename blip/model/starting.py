"""What a new network starts from: as published an image encoder of ImageNet and BERT, or a whole BLIP.

load_starting_vision(network, Path("deit_base_patch16_224.fb_in1k/model.safetensors"))
load_starting_text(network, Path("bert-base-uncased/model.safetensors"))
open_start(Path("model_base_capfilt_large.pth"), config)

Unimodal encoder and decoder both start as BERT's layers, embeddings and the head of the language model as BERT's own.
Cross-attention has no counterpart, nor have the tokens that BLIP adds behind BERT's vocabulary. BERT's token types,
which BLIP does without, stay away.

A model that was fine-tuned for one task has one text transformer only, encoder or decoder. The other begins as the
same, as both do as BERT, and they share all but self-attention from then on, as in pre-training.
"""

from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import torch
from torch import Tensor

from blip.errors import BlipError
from blip.model.api import Blip
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.checkpoints import find_fused, read_weights, rename, weight_names
from blip.model.public import public_vision
from blip.model.vision import positions_for

# One a token
ROWS = ("text_encoder.embeddings.word.weight", "text_decoder.embeddings.word.weight", "lm_head.bias")
# Of the settings of `model`, and where a network's configuration has them
SIZES = {
    "patch_size": "vision.patch_size",
    "vision.width": "vision.width",
    "vision.layers": "vision.layers",
    "vision.heads": "vision.heads",
    "text.width": "text.width",
    "text.layers": "text.layers",
    "text.heads": "text.heads",
    "projection": "projection",
}
TOWERS = ("text_encoder", "text_decoder")
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def load_starting_vision(network: BlipNetwork, path: Path) -> None:
    """Fill the image encoder from starting weights, safetensors with our own names or those of timm.

    Raises:
        BlipError: there is no such file, or it is of another encoder.
    """
    check_starting_vision(path)
    state = {name: tensor.float() for name, tensor in read_weights(path).items()}
    if "pos_embed" in state:  # timm's names; its classifier stays behind
        named = {name: public_vision(name) for name in network.vision.state_dict()}
        state = {name: state[theirs] for name, theirs in named.items() if theirs in state}
    vision = network.config.vision
    try:
        state["position_embedding"] = positions_for(
            state["position_embedding"], vision.image_size // vision.patch_size
        )
        network.vision.load_state_dict(state)
    except RuntimeError as error:
        raise BlipError(f"{path} does not fit the model's vision settings: {error}") from None


def check_starting_vision(path: Path) -> None:
    """Look at the names in a file of starting weights, without its tensors.

    Raises:
        BlipError: there is no such file, it is a whole BLIP, or it has no image encoder.
    """
    if not path.is_file():
        raise BlipError(f"{path}: no such file; model.start names the vision starting weights, or is null")
    names = weight_names(path)
    if any(name.startswith(TOWERS) for name in names):
        raise BlipError(
            f"{path} is a whole BLIP, of which model.start names the directory: {path.absolute().parent}"
        )
    if not {"pos_embed", "position_embedding"} & set(names):
        raise BlipError(
            f"{path} is no image encoder with timm's names or our own: it has no pos_embed and no "
            f"position_embedding, but {_listed('', sorted(names)).strip() or 'no tensor'}"
        )


@torch.no_grad()
def load_starting_text(network: BlipNetwork, path: Path) -> None:
    """Fill the text transformer from BERT's weights, a safetensors file with the names of `transformers`.

    Raises:
        BlipError: there is no such file, it lacks weights, or they have other sizes.
    """
    if not path.is_file():
        raise BlipError(
            f"{path}: no such file; model.text_start names BERT's weights (safetensors), or is null"
        )
    given = {_named_today(name): tensor.float() for name, tensor in read_weights(path).items()}
    missing, misfits = [], []
    for name, own in network.state_dict(keep_vars=True).items():
        if not name.startswith(("text_encoder.", "text_decoder.", "lm_head.")) or ".cross_attention." in name:
            continue
        theirs = find_fused(_of_bert(name), given)
        if theirs is None:
            missing.append(name)
        elif not _fill(own, theirs, name in ROWS):
            misfits.append(f"{name} {list(own.shape)}, there {list(theirs.shape)}")
    if missing or misfits:
        raise BlipError(
            f"{path} does not fit the model's text settings; "
            + "; ".join(filter(None, (_listed("it lacks", missing), _listed("other sizes:", misfits))))
        )


def open_start(path: Path, wanted: BlipConfig) -> Blip:
    """Open a whole BLIP to be trained further, a model directory or a published ``.pth``.

    Args:
        wanted: the network that the settings describe. Its pixels, rates and vocabulary may be others.

    Raises:
        BlipError: it is no BLIP, or one of other sizes.
    """
    opened = _with_both_towers(Blip.open(path, learns=True))
    theirs, ours = _sizes(opened.network.config), _sizes(wanted)
    if differing := [f"{name}: {size}" for name, size in theirs.items() if size != ours[name]]:
        raise BlipError(f"{path} has other sizes than model; write there {', '.join(differing)}")
    return opened


def _with_both_towers(opened: Blip) -> Blip:
    """The model itself if it has both text transformers; else one whose other one begins as the one that there is."""
    lacking = [tower for tower in TOWERS if tower in opened.card.missing]
    if len(lacking) != 1:
        return opened
    (there,) = set(TOWERS) - set(lacking)
    given = opened.network.state_dict()
    made = BlipNetwork(replace(opened.network.config, tied=True))
    made.load_state_dict(
        {
            name: given[
                name.replace(f"{lacking[0]}.", f"{there}.", 1) if name.startswith(lacking[0]) else name
            ]
            for name in made.state_dict()
        }
    )
    missing = tuple(part for part in opened.card.missing if part not in lacking)
    return Blip(made, opened.tokenizer, replace(opened.card, missing=missing))


def _sizes(config: BlipConfig) -> dict[str, int]:
    return {name: attrgetter(path)(config) for name, path in SIZES.items()}


def _fill(own: Tensor, theirs: Tensor, by_token: bool) -> bool:
    """Copy BERT's values; of what has a row for each token into the first rows. Whether they fit."""
    rows = len(theirs) if by_token else len(own)
    if theirs.shape[1:] != own.shape[1:] or len(theirs) != rows or rows > len(own):
        return False
    own[:rows] = theirs
    return True


def _of_bert(name: str) -> str:
    """BERT's name for one of our weights; query, key and value may be one still."""
    theirs = rename(name)
    for part in ("text_encoder.", "text_decoder.bert."):
        if theirs.startswith(part):
            return "bert." + theirs.removeprefix(part)
    return theirs.removeprefix("text_decoder.")


def _named_today(name: str) -> str:
    for old, new in OLD_NAMES.items():
        name = name.replace(old, new)
    return name


def _listed(what: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more}" if names else ""
