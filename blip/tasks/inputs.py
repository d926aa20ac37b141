"""What evaluations read: a trained model, and a dataset without the samples that validation set aside."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blip.config import Compute
from blip.config.dvc_yaml import way_to
from blip.config.places import DATASETS, MODELS
from blip.data.metadata import TRUTH
from blip.data.pairs import PairsDataset, set_aside
from blip.data.sample import Sample
from blip.data.text import clean_caption
from blip.errors import BlipError
from blip.model.api import Blip
from blip.model.device import device_of


def open_model(name: str, compute: Compute) -> Blip:
    """A model of the pipeline, in float32 whatever it was trained in: rounding makes ties.

    Raises:
        BlipError: it is not there (the message says which stage makes it) or cannot be read.
    """
    return open_directory(model_directory(name), compute)


def open_directory(directory: Path, compute: Compute) -> Blip:
    """A model directory as evaluations open one: on the device of the settings, in float32."""
    return Blip.open(directory, device_of(compute.device), "float32")


def model_directory(name: str) -> Path:
    """Where a model of the pipeline is. Raises BlipError if it is not there."""
    directory = MODELS / name
    if not directory.is_dir():
        raise BlipError(f"{directory}: there is no such model; {way_to(MODELS / name.partition('/')[0])}")
    return directory


def read_samples(name: str) -> Iterator[Sample]:
    """Stream a dataset of the pipeline.

    Raises:
        BlipError: it is not there, or damaged.
    """
    return samples_of(DATASETS / name)


def samples_of(dataset: Path) -> Iterator[Sample]:
    """Stream a dataset without what the list of validation beside it, if there is one, sets aside.

    Raises:
        BlipError: it is not there, or damaged.
    """
    return PairsDataset.open(dataset).samples(set_aside(dataset))


def known_of(dataset: PairsDataset, name: str) -> dict[str, Any]:
    """What a source tells of its samples for evaluation only, as `image_id`, by key; {} if it does not."""
    table = dataset.metadata()
    if TRUTH + name not in table.column_names:
        return {}
    values = zip(table["key"].to_pylist(), table[TRUTH + name].to_pylist(), strict=True)
    return {key: value for key, value in values if value is not None}


def labels_of(dataset: PairsDataset) -> dict[str, str]:
    """The class of every sample by key: `truth_label` where the source has one, else the first caption.

    Captions are classes where pictures share them, two or more on average; else there are none.
    """
    table = dataset.metadata()
    column = "truth_label" if "truth_label" in table.column_names else "caption"
    keys, labels = table["key"].to_pylist(), table[column].to_pylist()
    known = ((key, "" if label is None else str(label)) for key, label in zip(keys, labels, strict=True))
    found = {key: label for key, label in known if label}
    if column == "caption" and 2 * len(set(map(clean_caption, found.values()))) > len(found):
        return {}
    return found
