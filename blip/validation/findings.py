"""What was found, for people: each rule's outcome with the keys and captions of the samples that break it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blip.data.pairs import PairsDataset
from blip.validation.checkpoint import Outcome
from blip.validation.facts import Facts, captions_of, keys_of
from blip.validation.rules import Rule

IN_A_LINE, ON_A_PAGE = 3, 12  # examples of a rule
LIKE = {"duplicate": "the same file as", "near_duplicate": "looks like"}


@dataclass(frozen=True)
class Broken:
    """A sample that breaks a rule: its key, what was found ("aspect_ratio 5") and its first caption."""

    key: str
    found: str
    caption: str


@dataclass(frozen=True)
class Finding:
    """What came of one rule.

    Attributes:
        passed: it holds.
        observed: what was observed, in words.
        set_aside: (key, what was found) of each sample that is left out for it.
        examples: the first that break it.
    """

    rule: Rule
    passed: bool
    observed: str
    set_aside: tuple[tuple[str, str], ...] = ()
    examples: tuple[Broken, ...] = ()

    @property
    def stops(self) -> bool:
        """Whether the dataset is refused for it."""
        return self.rule.critical and not self.passed


def describe(outcomes: Sequence[Outcome], found: Facts, dataset: PairsDataset) -> list[Finding]:
    """Findings of outcomes; keys and captions are read from the table for the rows that they name."""
    named = [outcome.rows if outcome.rule.sets_aside else outcome.rows[:ON_A_PAGE] for outcome in outcomes]
    alike = [
        found.like[column][rows]
        for outcome, rows in zip(outcomes, named, strict=True)
        if (column := outcome.rule.arguments.get("column")) in LIKE
    ]
    shown = [outcome.rows[:ON_A_PAGE] for outcome in outcomes]
    keys = keys_of(dataset, _sorted([*named, *alike]))
    captions = captions_of(dataset, _sorted(shown))
    return [_finding(outcome, found, keys, captions) for outcome in outcomes]


def _sorted(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.concatenate([*rows, np.empty(0, np.int64)]))


def _finding(outcome: Outcome, found: Facts, keys: dict[int, str], captions: dict[int, str]) -> Finding:
    rule, rows, total = outcome.rule, outcome.rows, outcome.samples
    if rule.observed or "column" not in rule.arguments:
        return Finding(rule, outcome.passed, rule.observed or f"{total:,} samples")
    if not len(rows):
        return Finding(rule, outcome.passed, f"none of {total:,} samples breaks it")
    broken = [
        Broken(keys[row], _found(rule.arguments["column"], row, found, keys), captions[row])
        for row in rows[:ON_A_PAGE].tolist()
    ]
    shown = ", ".join(f"{sample.key} ({sample.found})" for sample in broken[:IN_A_LINE])
    observed = (
        f"{len(rows):,} of {total:,} samples break it: {shown}{', ...' if len(rows) > IN_A_LINE else ''}"
    )
    column = rule.arguments["column"]
    set_aside = (
        tuple((keys[row], _found(column, row, found, keys)) for row in rows.tolist())
        if rule.sets_aside
        else ()
    )
    return Finding(rule, outcome.passed, observed, set_aside, tuple(broken))


def _found(column: str, row: int, found: Facts, keys: dict[int, str]) -> str:
    """`aspect_ratio 5`, or `looks like key-00001`."""
    if column in LIKE:
        return f"{LIKE[column]} {keys[int(found.like[column][row])]}"
    value = found.frame[column].iat[row]
    return f"{column} {value if isinstance(value, str) else format(value, 'g')}"
