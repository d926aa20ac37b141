"""How the figures of a stage were measured: on which weights, on which data, with which settings.

    how = measured([Path("models/vqa")], "vqa_test", settings, "evaluate.vqa")
    run.note(Scores.of({"vqa.accuracy": 0.75}, how))

It stands beside the figures in metrics/STAGE.json, as a list, which `dvc metrics` passes over:

    {"vqa.accuracy": 0.75, "measured": [{"figures": ["vqa.accuracy"], "weights": [...], "data": ..., "settings": ...}]}
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from blip.config import Settings
from blip.config.places import DATASETS
from blip.data.kept import digest_of
from blip.tracking import registry
from blip.tracking.lineage import flatten

MEASURED = "measured"
VALIDATION_DATA = re.compile(r"validation\..*\.data")


@dataclass(frozen=True)
class Measured:
    """How a figure was measured.

    Attributes:
        weights: digests of the models that it tells of.
        data: digest of the samples.
        settings: those that decide it besides, by their dotted names.
        stage: whose file it was read from, as `evaluate_vqa`.
    """

    weights: tuple[str, ...]
    data: str
    settings: tuple[tuple[str, str], ...]
    stage: str = field(default="", compare=False)

    @property
    def how(self) -> str:
        """A digest of data and settings, but for a name of the data; figures may be compared where it is the same."""
        settings = [one for one in self.settings if not VALIDATION_DATA.fullmatch(one[0])]
        return digest_of([self.data, settings])

    def problem(self, weights: str, settings: Settings) -> str:
        """Why the figure is not what a model with these weights reaches with these settings; "" where it is."""
        if weights not in self.weights:
            return "measured on other weights"
        now = _flat(settings)
        for name, value in self.settings:
            if now.get(name) != value:
                return f"measured with {name} {value}, which is {now.get(name, 'not set')} now"
        return ""


class Scores(NamedTuple):
    """Figures, and of each how it was measured."""

    figures: dict[str, float]
    measured: dict[str, Measured]

    @classmethod
    def of(cls, figures: Mapping[str, float], how: Measured) -> "Scores":
        """Figures that were all measured alike."""
        return cls(dict(figures), dict.fromkeys(figures, how))

    def __or__(self, others: "Scores") -> "Scores":
        return Scores(self.figures | others.figures, self.measured | others.measured)


def measured(models: Iterable[Path], dataset: str, settings: Settings, *names: str) -> Measured:
    """What is measured on a dataset of the pipeline, and decided by these settings, as `evaluate.vqa` or `seed`.

    Raises:
        BlipError: a model or the dataset is not there.
    """
    return Measured(
        tuple(registry.weights_digest(model) for model in models),
        data_digest(DATASETS / dataset),
        tuple(
            (name, value)
            for name, value in _flat(settings).items()
            if any(f"{name}.".startswith(f"{wanted}.") for wanted in names)
        ),
    )


def data_digest(dataset: Path) -> str:
    """Digest of the samples of a dataset without those that validation set aside. Raises BlipError if there is none.

    It is of the shards, not of the manifest, which also says where they came from and what was kept out of training.
    """
    from blip.data.pairs import PairsDataset, set_aside  # slow; who reads figures needs none of them

    shards = PairsDataset.open(dataset).manifest.shards
    return digest_of([*(shard.sha256 for shard in shards), *sorted(set_aside(dataset))])


def as_json(scores: Scores) -> dict[str, Any]:
    """What a file with figures holds."""
    alike: dict[Measured, list[str]] = {}
    for name in scores.figures:
        if how := scores.measured.get(name):
            alike.setdefault(how, []).append(name)
    records = [
        {"figures": names, "weights": how.weights, "data": how.data, "settings": dict(how.settings)}
        for how, names in alike.items()
    ]
    return {**scores.figures, MEASURED: records} if records else scores.figures


def from_json(values: Mapping[str, Any], stage: str) -> Scores:
    """What such a file of a stage says.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it is no such file.
    """
    figures = {name: float(value) for name, value in values.items() if name != MEASURED}
    measured = {
        name: Measured(tuple(record["weights"]), record["data"], tuple(record["settings"].items()), stage)
        for record in values.get(MEASURED, [])
        for name in record["figures"]
    }
    return Scores(figures, measured)


def _flat(settings: Settings) -> dict[str, str]:
    values = settings.model_dump(mode="json", by_alias=True)
    return {name: text for part, value in values.items() for name, text in flatten(part, value).items()}
