"""A `.pth` file as named tensors. A pickle can run any program when it is opened; here it can only be tensors.

state, others = read_pth(Path("model_base.pth"))
"""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blip.errors import BlipError

ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # what files of torch >= 1.6 and of older ones begin with
DAMAGED = (OSError, EOFError, RuntimeError, ValueError, LookupError, pickle.UnpicklingError)


def read_pth(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a file, mapped rather than read where its format allows it.

    Returns:
        the tensors by name, and the names of what stands beside them when the file is ``{"model": ..., ...}``.

    Raises:
        BlipError: no such file, not one of torch's, truncated, or with objects that are no tensors.
    """
    loaded = _load(path)
    others: list[str] = []
    if isinstance(loaded, dict) and isinstance(loaded.get("model"), dict):
        others = [str(name) for name in loaded if name != "model"]
        loaded = loaded["model"]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(name, str) for name in loaded):
        raise BlipError(f"{path} holds a {type(loaded).__name__}, not a network's tensors by name")
    odd = [name for name, value in loaded.items() if not isinstance(value, Tensor)]
    if odd:
        raise BlipError(f"{path}: {odd[0]} is a {type(loaded[odd[0]]).__name__}, not a tensor")
    return loaded, others


def _load(path: Path) -> Any:
    if path.is_dir():
        raise BlipError(
            f"{path} is a directory, not a checkpoint's one file; a model directory needs no import: "
            "--model and blip.load open it as it is"
        )
    if not path.is_file():
        raise BlipError(f"{path}: no such file")
    with path.open("rb") as file:
        start = file.read(4)
    whole_zip = zipfile.is_zipfile(path)
    size = f"{path.stat().st_size:,} bytes"
    if start == ZIP and not whole_zip:
        raise BlipError(f"{path} is truncated: the index at its end is missing ({size}); download it again")
    if start != ZIP and start[:1] != PICKLE:
        raise BlipError(
            f"{path} is not a file of torch.save: it begins with {start!r} ({size}){_way_to(path)}"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=whole_zip)
    except DAMAGED as error:
        if isinstance(error, pickle.UnpicklingError) and "nsupported" in str(error):
            raise BlipError(_unsafe(path, str(error))) from None
        raise BlipError(
            f"{path} is truncated or damaged ({size}): {str(error)[:200] or 'it ends too early'}; "
            "download it again"
        ) from None


def _way_to(path: Path) -> str:
    """The model directory, where a file is the weights of one."""
    there = (path.parent / "config.json").is_file()
    return f"; a model is opened by its directory: {path.absolute().parent}" if there else ""


def _unsafe(path: Path, message: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", message)
    what = f"it asks for {found[1]}" if found else "it holds more than tensors"
    return (
        f"{path} is not opened: {what}, and a pickle that may make objects can run any program. Ask its author "
        'for a file of tensors, or write one where you trust it: torch.save({"model": network.state_dict()}, path)'
    )
