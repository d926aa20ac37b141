"""Opening the models and pictures that commands are given."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blip.errors import BadArguments, BlipError
from blip.spelling import plain

if TYPE_CHECKING:
    from PIL.Image import Image

    from blip.clip import Clip
    from blip.model.api import Blip

Model = Annotated[str, typer.Option(help="A model directory, a .pth file, a hub id, or models:/NAME@ALIAS.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU when there is one.")]


def open_model(name: str, device: str) -> "Blip":
    """Open a model on a device. Raises BadArguments for a device that is not here."""
    import blip
    from blip.model.device import use_own_cores

    use_own_cores()
    return blip.load(name, chosen_device(device))


def note_purpose(model: "Blip", answers: bool) -> None:
    """Say on standard error where a model of answers is to do something else, or another one to answer.

    Both have all parts that either needs, and do not refuse.
    """
    if model.card.answers != answers:
        said = (
            "has not learnt to answer questions" if answers else "learnt to answer questions and nothing else"
        )
        print(f"note: this model ({model.card.task}) {said}: do not expect much", file=sys.stderr)


def note_prompt(path: Path) -> None:
    """Say on standard error where a captioner is a directory of `transformers`, which tells no prompt."""
    from blip.model.config_json import read_values

    if path.is_dir() and "blip" not in read_values(path):
        print(
            f"note: {path}/config.json tells no prompt, and captions are written without one, as transformers does; "
            'the published captioners learnt them after "a picture of ": for that put '
            '"blip": {"prompt": "a picture of "} there',
            file=sys.stderr,
        )


def note_cut(model: "Blip", texts: Sequence[str], question: bool = False) -> None:
    """Say on standard error how many of the captions, or questions, the model does not read to their end."""
    from blip.data.text import CAPTION_WORDS, QUESTION_WORDS, clean_caption, clean_question

    clean, words = (clean_question, QUESTION_WORDS) if question else (clean_caption, CAPTION_WORDS)
    if cut := model.cut_texts(texts, clean):
        print(
            f"note: the model reads {words} words and {model.card.max_tokens} tokens of a text, and {cut} of "
            f"{len(texts)} are longer: what is behind is left out",
            file=sys.stderr,
        )


def open_either(name: str, device: str) -> "Blip | Clip":
    """Open a BLIP or a CLIP, as its config.json says. Raises BlipError for what is neither."""
    import blip
    from blip.model.config_json import read_values
    from blip.model.device import use_own_cores
    from blip.tracking.registry import resolve

    path = resolve(name)
    kind = "blip" if path.is_file() else read_values(path).get("model_type", "blip")
    opened = {"blip": blip.load, "clip": blip.load_clip}.get(kind)
    if opened is None:
        raise BlipError(
            f"{name}: model_type is {kind!r}, and what embeds pictures and texts here is 'blip' or 'clip'"
        )
    use_own_cores()
    return opened(str(path), chosen_device(device))


def chosen_device(device: str) -> str:
    """The device that ``auto`` stands for, or the one named. Raises BadArguments for one that is not here."""
    import torch

    from blip.model.device import device_of

    if device not in ("auto", "cpu") and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise BadArguments(f"--device {device}: there is no such device here; use cpu or auto")
    return device_of(device)


def read_pictures(paths: Sequence[Path]) -> "list[Image]":
    """Open pictures. Raises BlipError with the name of the one that cannot be used."""
    from blip.data.decode import BadMedia
    from blip.data.images import to_pil

    pictures = []
    for path in paths:
        try:
            pictures.append(to_pil(path))
        except BadMedia as error:
            raise BlipError(f"{path} cannot be used as a picture: {error.detail}") from None
    return pictures


def read_usable(paths: Sequence[Path]) -> "tuple[list[Path], list[Image]]":
    """Those that can be used, and their pictures; of the others it is said why they are left out."""
    usable, pictures = [], []
    for path in paths:
        try:
            pictures += read_pictures([path])
            usable.append(path)
        except BlipError as error:
            leave_out(str(error))
    return usable, pictures


def leave_out(why: str) -> None:
    """Say on standard error why a picture is left out."""
    print(f"left out: {plain(why)}", file=sys.stderr)
