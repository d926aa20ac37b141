"""The templates of the report's pages, and what all of them can say: numbers in words, outcomes, groups of decisions.

environment().get_template("page.html.j2").render(...)
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blip.report.audit import Audit
from blip.report.decision import DROPPED, ORIGINS, OUTCOMES, REASONS, Decision, Outcome, probability_text
from blip.report.provenance import duration

GROUPS: tuple[tuple[Outcome, bool | None, str], ...] = (
    ("replaced", False, "Replaced: wrong text dropped, synthetic caption kept"),
    ("kept", True, "Kept: right text"),
    ("dropped", False, "Dropped: wrong text, and nothing better found"),
    ("kept", False, "Kept all the same: wrong text"),
    ("replaced", True, "Right text dropped for a synthetic caption"),
    ("dropped", True, "Right text dropped with its picture"),
    ("replaced", None, "Replaced: web text dropped, synthetic caption kept"),
    ("dropped", None, "Dropped: no text kept"),
    ("kept", None, "Kept: web text"),
)
"""Outcomes with what the web text was (None: not known), in the order in which pages show them."""


@dataclass(frozen=True)
class Shown:
    """Decisions of one kind to look at, and how many there are of it."""

    title: str
    outcome: Outcome
    count: int
    decisions: list[Decision]


def groups(audit: Audit) -> list[Shown]:
    """The chosen decisions, in the order of GROUPS."""
    return [
        Shown(title, outcome, audit.outcomes[outcome, right], audit.chosen[outcome, right])
        for outcome, right, title in GROUPS
        if audit.outcomes[outcome, right]
    ]


def environment() -> Environment:
    """The templates with their filters; whatever they are given is escaped."""
    made = Environment(
        loader=PackageLoader("blip.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": lambda share, digits=1: f"{100 * share:.{digits}f}%",
        "points": lambda share: f"{100 * share:+.1f}",
        "css": lambda share: f"{100 * share:.2f}%",
        "thousands": lambda number: f"{round(number):,}",
        "figure": _figure,
        "probability": _probability,
        "threshold": probability_text,
        "signed": lambda value: f"{value:+.1f}".replace("-", "\N{MINUS SIGN}"),
        "duration": duration,
        "raw": Markup,
    }
    made.globals |= {
        "figure_shares": _shares,
        "asked_others": _asked_others,
        "bars": _bars,
        "outcomes": OUTCOMES,
        "origins": ORIGINS,
        "reasons": REASONS,
        "dropped": DROPPED,
    }
    return made


def _asked_others(groups: Iterable[Shown]) -> bool:
    """Whether anyone but the filter had a say in one of the decisions shown."""
    return any(text.voices for group in groups for decision in group.decisions for text in decision.texts)


def _probability(value: float, threshold: float) -> str:
    """With as few digits as put it on its side of its threshold: of what a page shows of that one, if any do."""
    tries = (_short(value), *(f"{value:.{digits}g}" for digits in range(3, 18)))
    cuts = (float(probability_text(threshold)), threshold)
    sides = ((shown, float(shown.removeprefix("<")) >= cut) for cut in cuts for shown in tries)
    return next(shown for shown, above in sides if above == (value >= threshold))


def _short(value: float) -> str:
    """With two decimals, or more where it is so near to 0 or 1 that a threshold may still be beyond it."""
    if value >= 0.995:
        return probability_text(value)
    if value >= 0.01:
        return f"{value:.2f}"
    return f"{value:.3f}" if value >= 0.0005 else "<0.001"


def _figure(value: float) -> str:
    """A number as short as it can be said: whole ones without decimals."""
    return f"{round(value):,}" if float(value).is_integer() else f"{value:.3g}"


def _bars(audit: Audit) -> list[tuple[bool | None, str]]:
    """Whose outcomes a bar each shows: right and wrong web texts where any is known to be, all where some are not."""
    bars: list[tuple[bool | None, str]] = []
    if audit.knows_truth:
        bars += [(True, "Right web texts"), (False, "Wrong web texts")]
    if not audit.knows_truth or audit.known() < audit.pictures:
        bars.append((None, "Pictures"))
    return bars


def _shares(audit: Audit, right: bool | None) -> list[tuple[str, int, float]]:
    """(outcome, pictures, share) of the web texts that are right, wrong, or of all."""
    whole = max(1, audit.count(right=right))
    return [(name, audit.count(name, right), audit.count(name, right) / whole) for name in OUTCOMES]
