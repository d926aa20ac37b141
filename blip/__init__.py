"""blip: noisy image-text data in, vision-language models one can trust out.

import blip
model = blip.load("models:/blip-captioning@champion")
model.caption(["cat.jpg"])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blip.clip import Clip
    from blip.model.api import Blip

__all__ = ["Blip", "Clip", "load", "load_clip"]
__version__ = "0.1.0"

_CLASSES = {"Blip": "blip.model.api", "Clip": "blip.clip"}


def __getattr__(name: str) -> Any:
    """The classes of models, imported where they are named first: `import blip` alone takes no time."""
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_CLASSES[name]), name)


def load(model: str, device: str = "cpu", dtype: str = "float32", compiled: bool = False) -> "Blip":
    """Open a model.

    Args:
        model: a model directory, a public ``.pth`` checkpoint, a hub id, or ``models:/NAME@ALIAS`` of the registry.
        device: ``cpu`` or ``cuda``.
        dtype: ``float32``, or ``bfloat16``: matrices and their products, which also take half the memory.
        compiled: compile the layers at their first use, a minute or more that pays for many images on a GPU.

    Raises:
        blip.errors.BlipError: there is no such model, or it is none of ours.
    """
    from blip.model.api import Blip
    from blip.tracking.registry import resolve

    return Blip.open(resolve(model), device, dtype, compiled)


def load_clip(model: str, device: str = "cpu", dtype: str = "float32") -> "Clip":
    """Open a CLIP of `transformers`, which embeds pictures and texts as a BLIP does.

    Args:
        model: a directory that `transformers` saved, with safetensors weights, or a hub id.
        device: ``cpu`` or ``cuda``.
        dtype: ``float32``, or ``bfloat16``: matrices and their products, which also take half the memory.

    Raises:
        blip.errors.BlipError: there is no such model, or it is no CLIP.
    """
    from blip.clip import Clip
    from blip.tracking.registry import resolve

    return Clip.open(resolve(model), device, dtype)
