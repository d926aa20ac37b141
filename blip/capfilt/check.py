"""Whether the models can do what CapFilt asks of them, before a shard is worked on.

check_models(models)                   # BlipError: captioner: models/clip: model_type is 'clip', not 'blip' ...
"""

from collections.abc import Sequence
from pathlib import Path

from blip.capfilt.inputs import Models
from blip.errors import BlipError
from blip.model.parts import Task, require


def check_models(models: Models) -> None:
    """Open captioner and filters.

    Raises:
        BlipError: one cannot be opened, or has no weights for its part; the part and the directory are named.
    """
    _check("captioner", models.captioner, models, ["caption"])
    if models.open(models.captioner).card.answers:
        raise BlipError(
            f"captioner: {models.captioner} answers questions, its decoder reads them and no image; "
            "name a model that was trained to write captions"
        )
    for directory in models.filters:
        _check("filter", directory, models, ["match", "embed images", "embed texts"])


def _check(role: str, directory: Path, models: Models, tasks: Sequence[Task]) -> None:
    try:
        model = models.open(directory)
    except BlipError as error:
        raise BlipError(f"{role}: {error}") from None
    try:
        for task in tasks:
            require(task, model.card.missing)
    except BlipError as error:
        raise BlipError(f"{role}: {directory}: {error}") from None
