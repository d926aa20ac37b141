"""A model of anywhere as a directory to give away: its files, and a card that says what is known of it.

    export("models:/blip-retrieval@champion", Path("ship/retrieval"), "bfloat16")

The directory opens in `blip.load` and in `transformers`, whatever type its weights are stored in.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from blip.atomic import atomic_path
from blip.data.text import Tokenizer
from blip.data.vocabulary import find_tokenizer
from blip.digest import file_sha256
from blip.errors import BlipError
from blip.model.api import Blip
from blip.model.blip import BlipNetwork
from blip.model.checkpoints import WEIGHTS, read_weights, save_model, write_weights
from blip.model.config_json import ModelCard, read_config
from blip.model.nlvr import MODEL_TYPE, NlvrNetwork, load_nlvr, save_nlvr
from blip.model.public import open_public
from blip.serving.card import Card, origin_of
from blip.tasks.matching import with_members
from blip.tracking.registry import resolve

Dtype = Literal["float32", "bfloat16", "float16"]
CONFIG, README = "config.json", "README.md"


class Opened(NamedTuple):
    """What a model directory is written from."""

    network: BlipNetwork | NlvrNetwork
    tokenizer: Tokenizer
    card: ModelCard


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        source: the directory or file that it was made of.
        bytes: of the weights, those of a filter's members included.
        saved: how many these are fewer than in float32.
        files: of every file but the card its SHA-256, by its name below the directory.
    """

    source: Path
    bytes: int
    saved: int
    files: dict[str, str]


def export(model: str, directory: Path, dtype: Dtype = "float32") -> Exported:
    """Write a model with its card, and the members of a filter of several; the directory appears as a whole.

    Args:
        model: a model directory, a public ``.pth`` checkpoint, a hub id, or ``models:/NAME@ALIAS``.
        dtype: of the stored weights.

    Raises:
        BlipError: there is no such model, or `dtype` has no numbers as large as its weights.
    """
    source = resolve(model)
    origin, opened = origin_of(model, source), open_files(source)
    members = with_members(source)[1:] if source.is_dir() else []
    with atomic_path(directory) as temporary:
        save(opened, temporary)
        for member in members:
            save(open_files(member), temporary / member.relative_to(source))
        saved = sum(keep_as(file.parent, dtype) for file in sorted(temporary.rglob(WEIGHTS)))
        files = {file.relative_to(temporary).as_posix(): file for file in sorted(temporary.rglob("*.*"))}
        digests = {name: file_sha256(file) for name, file in files.items()}
        size = sum(file.stat().st_size for name, file in files.items() if file.name == WEIGHTS)
        card = Card(directory.name, origin, opened.network, opened.card, dtype, size, len(members), digests)
        (temporary / README).write_text(card.markdown(), encoding="utf-8")
    return Exported(source, size, saved, digests)


def open_files(path: Path) -> Opened:
    """Open a model directory, ours or one of transformers, or a public checkpoint, for whatever task it is.

    Raises:
        BlipError: it is none of these, or is damaged.
    """
    if path.is_file():
        public = open_public(path)
        vocabulary = public.network.config.text.vocabulary
        return Opened(public.network, find_tokenizer(vocabulary, None, path.parent), public.card)
    if read_config(path).get("model_type") == MODEL_TYPE:
        network, card = load_nlvr(path)
        return Opened(network, Tokenizer.from_directory(path), card)
    model = Blip.open(path, learns=True)
    return Opened(model.network, model.tokenizer, model.card)


def save(opened: Opened, directory: Path) -> None:
    """Write a model directory atomically, in float32."""
    if isinstance(opened.network, NlvrNetwork):
        save_nlvr(opened.network, opened.tokenizer, directory, opened.card)
    else:
        save_model(opened.network, opened.tokenizer, directory, opened.card)


def keep_as(directory: Path, dtype: Dtype) -> int:
    """Have the matrices and vectors of a model directory in another type; a single number stays as it is.

    transformers opens it in that type, which its config.json then names.

    Returns:
        how many bytes this saves.

    Raises:
        BlipError: a weight is larger than the numbers of that type.
    """
    if dtype == "float32":
        return 0
    file, kind = directory / WEIGHTS, getattr(torch, dtype)
    before, state = file.stat().st_size, read_weights(file)
    kept = {name: value.to(kind) if value.ndim else value for name, value in state.items()}
    for name, value in kept.items():
        if not value.isfinite().all():
            largest = state[name].abs().max().item()
            raise BlipError(
                f"{name} has a weight of {largest:.3g}, more than {dtype} can hold; export it in bfloat16"
            )
    write_weights(kept, file, metadata={"format": "pt"})
    config = json.loads((directory / CONFIG).read_text(encoding="utf-8")) | {"dtype": dtype}
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return before - file.stat().st_size
