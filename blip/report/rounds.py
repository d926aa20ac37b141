"""The rounds of CapFilt side by side, where there was more than one."""

from collections.abc import Mapping
from dataclasses import dataclass

from blip.config.rounds import ROUNDS, rounds_in

LABELS = {
    "captioner.validation.exact_match": "Captioner on validation, exact match",
    "filter.validation_auc": "Filter on validation by its ITM head, ROC AUC",
    "capfilt.validation_auc": "Filter on validation as CapFilt decides, ROC AUC",
    "filter.roc_auc": "Filter on the web texts, ROC AUC",
    "filter.precision": "Kept web texts that are right",
    "filter.recall": "Right web texts that are kept",
    "capfilt.web_kept": "Web texts kept",
    "capfilt.synthetic_kept": "Synthetic captions kept",
    "capfilt.images_dropped": "Pictures dropped",
    "pretrained.validation.itc.i2t_r1": "Pre-trained on what was kept: validation, image to text R@1",
    "pretrained.validation.itc.t2i_r1": "text to image R@1",
}


@dataclass(frozen=True)
class RoundsTable:
    """A column for every round, and for every figure its label and what it is in each; "–" where it is not known."""

    numbers: list[int]
    rows: list[tuple[str, list[str]]]


def rounds_table(figures: Mapping[str, float]) -> RoundsTable | None:
    """The table; None for one round, whose figures the page has already."""
    numbers = rounds_in(figures)
    if len(numbers) < 2:
        return None
    values = {name: [figures.get(f"{ROUNDS}.{number}.{name}") for number in numbers] for name in LABELS}
    rows = [
        (LABELS[name], [_shown(name, value) for value in row])
        for name, row in values.items()
        if any(value is not None for value in row)
    ]
    return RoundsTable(numbers, rows)


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if name.endswith("auc") else f"{100 * value:.1f}%"
