"""README.md of an exported model: where it comes from, what it reaches and on what, how to open it.

What is not known is not said: a model directory of anywhere has no lineage, and figures are those of these very
weights, from the registry's version or from the project's metrics/STAGE.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from blip.config.rounds import of_last_round
from blip.digest import file_sha256
from blip.model.blip import BlipNetwork
from blip.model.config_json import ModelCard
from blip.model.nlvr import NlvrNetwork
from blip.model.parts import NEEDS, part_of
from blip.tracking import gate, registry
from blip.tracking.measured import Measured

COMPARED = ("compare.", "rounds.")  # figures that tell of other models as well
PIPELINE_TAGS = {
    "captioning": "image-to-text",
    "captioner": "image-to-text",
    "vqa": "visual-question-answering",
}
SHORT = 12  # characters of a digest


@dataclass(frozen=True)
class Origin:
    """What is known of a model's weights.

    Attributes:
        name: as it was asked for.
        digest: SHA-256 of a public checkpoint, or of a directory's weights as the registry tells them apart.
        version: of the registry with these weights, if any.
        figures: that the project has measured on these weights alone, and how.
    """

    name: str
    digest: str
    version: registry.Version | None
    figures: dict[str, float]
    how: dict[str, Measured]


@dataclass(frozen=True)
class Measurement:
    """Figures that were measured alike, and how: data and settings."""

    on: str
    settings: str
    figures: dict[str, float]


def origin_of(name: str, source: Path) -> Origin:
    """What the registry and the metrics of this project say of a model."""
    if source.is_file():
        return Origin(name, file_sha256(source), None, {}, {})
    weights = registry.weights_digest(source)
    version = registry.named(name) if name.startswith(registry.SCHEME) else registry.with_weights(weights)
    scores = gate.read_scores()
    how = {
        figure: measured
        for figure, measured in of_last_round(scores.measured).items()
        if measured.weights == (weights,) and not figure.startswith(COMPARED)
    }
    values = of_last_round(scores.figures)
    return Origin(name, weights, version, {figure: values[figure] for figure in how}, how)


@dataclass(frozen=True)
class Card:
    """All that the README of an exported directory says."""

    title: str
    origin: Origin
    network: BlipNetwork | NlvrNetwork
    card: ModelCard
    dtype: str
    bytes: int
    members: int
    files: Mapping[str, str]

    def markdown(self) -> str:
        """The README, with the front matter that model hubs read."""
        made = Environment(
            loader=PackageLoader("blip.serving"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        made.filters["figure"] = _figure
        config = self.network.config
        return made.get_template("card.md.j2").render(
            card=self,
            version=self.origin.version,
            task=self.task,
            pipeline_tag=PIPELINE_TAGS.get(self.task),
            two_images=isinstance(self.network, NlvrNetwork),
            can=self.can,
            vision=config.vision,
            text=config.text,
            parameters=self.parameters,
            measurements=measurements(self.origin),
        )

    @property
    def task(self) -> str:
        """What it was trained for, as `retrieval` or `pretrain`."""
        return self.card.task.rpartition("@")[2]

    @property
    def parameters(self) -> int:
        """How many there are; of a part that the model lacks those alone that another one shares."""
        named = self.network.named_parameters(remove_duplicate=False)
        there = {parameter for name, parameter in named if part_of(name) not in self.card.missing}
        return sum(parameter.numel() for parameter in there)

    @property
    def can(self) -> list[str]:
        """Of what a BLIP can do, that which no part is missing for."""
        return [task for task, (parts, _) in NEEDS.items() if not set(parts) & set(self.card.missing)]


def measurements(origin: Origin) -> list[Measurement]:
    """The figures by how they were measured; those that only the registry knows come last, with a digest of that."""
    alike: dict[Measured, dict[str, float]] = {}
    for figure, how in origin.how.items():
        alike.setdefault(how, {})[figure] = origin.figures[figure]
    found = [Measurement(_data(how), _settings(how), figures) for how, figures in alike.items()]
    version = origin.version
    if version and (others := {n: v for n, v in version.figures.items() if v != origin.figures.get(n)}):
        hows = sorted({version.how[figure][:SHORT] for figure in others if figure in version.how})
        found.append(Measurement("", ", ".join(hows), others))
    return found


def _figure(value: float) -> str:
    """In four digits; what is whole or large without decimals, and without powers of ten."""
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.4g}"


def _data(how: Measured) -> str:
    named = [value for name, value in how.settings if name.endswith(".data")]
    return f"{' and '.join(named) or 'data'} (digest `{how.data[:SHORT]}`)"


def _settings(how: Measured) -> str:
    return ", ".join(f"`{name}` {value}" for name, value in how.settings if not name.endswith(".data"))
