"""What follows CapFilt reads its last round: which models, which dataset, which figures.

    last_model("captioner", settings)       # "captioner"; with capfilt.rounds = 3 "rounds/3/captioner"
    last_dataset(settings)                  # "bootstrapped"; "rounds/3"

Round 1 are the stages captioner, filter, capfilt and pretrain_bootstrapped; those after it the stage rounds makes.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from blip.config.places import BOOTSTRAPPED, ROUNDS
from blip.config.sections import Run, Settings

Value = TypeVar("Value")  # a figure, or what is known of it

PARTS = {
    "captioner": "captioner",
    "filter": "filter",
    "capfilt": "capfilt",
    "pretrain_bootstrapped": "pretrained",
}
"""The stages of round 1, and what the same is called in a round after it."""


def last_model(stage: str, settings: Settings) -> str:
    """The directory below models/ of what a stage of round 1 makes, as the last round made it; or the stage's own."""
    rounds = settings.capfilt.rounds
    return f"{ROUNDS}/{rounds}/{PARTS[stage]}" if rounds > 1 and stage in PARTS else stage


def last_dataset(settings: Settings) -> str:
    """The directory below data/datasets that the last round bootstrapped."""
    rounds = settings.capfilt.rounds
    return f"{ROUNDS}/{rounds}" if rounds > 1 else BOOTSTRAPPED


def reading(run: Run, dataset: str) -> Run:
    """The training run with that dataset in place of `bootstrapped`."""

    def named(name: str) -> str:
        return dataset if name == BOOTSTRAPPED else name

    data = run.data
    if isinstance(data, dict):
        return run.model_copy(update={"data": {named(name): weight for name, weight in data.items()}})
    return run.model_copy(update={"data": [named(name) for name in data]})


def of_round(number: int, figures: Mapping[str, Value]) -> dict[str, Value]:
    """Figures of a round's parts under the names of metrics/rounds.json, as `rounds.2.filter.roc_auc`."""
    named: dict[str, Value] = {}
    for name, value in figures.items():
        stage, dot, rest = name.partition(".")
        if dot and stage in PARTS:
            named[f"{ROUNDS}.{number}.{PARTS[stage]}.{rest}"] = value
    return named


def rounds_in(figures: Iterable[str]) -> list[int]:
    """The rounds that figures tell of."""
    told = (name.split(".") for name in figures if name.startswith(f"{ROUNDS}."))
    return sorted({int(number) for _, number, *_ in told if number.isdecimal()})


def of_last_round(figures: Mapping[str, Value]) -> dict[str, Value]:
    """All figures, with those of the captioner, the filter and what they kept as the last round has them."""
    last = max(rounds_in(figures), default=1)
    stages = {part: stage for stage, part in PARTS.items()}
    found = dict(figures)
    for name, value in figures.items():
        part, _, rest = name.removeprefix(f"{ROUNDS}.{last}.").partition(".")
        if name.startswith(f"{ROUNDS}.{last}.") and part in stages:
            found[f"{stages[part]}.{rest}"] = value
    return found
