"""The promotion gate: which figures a model must reach, and how they stand against the champions'.

scores = read_scores()
verdict = judge({"retrieval.i2t_r1": 0.30}, scores.figures, {"retrieval.i2t_r1": 0.66}, {"retrieval.i2t_r1": 0.02})
verdict.passed, verdict.reasons
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blip.config.places import METRICS
from blip.errors import BlipError
from blip.tracking.measured import Scores, from_json

# Written from the others, by this stage or after it: perhaps of an earlier pipeline
DERIVED = ("summary", "register")


@dataclass(frozen=True)
class Check:
    """One figure of a candidate, what it must reach and the best of a champion; `problem` is empty when it does."""

    metric: str
    value: float | None
    minimum: float
    best: float | None
    problem: str
    behind: bool = False


@dataclass(frozen=True)
class Verdict:
    """All checks of one candidate."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether the candidate may become the champion."""
        return not self.reasons

    @property
    def good_enough(self) -> bool:
        """Whether every minimum is reached, be the champion better or not."""
        return all(not check.problem or check.behind for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """Why it may not, a sentence a figure."""
        return [check.problem for check in self.checks if check.problem]


def read_scores(directory: Path = METRICS) -> Scores:
    """All figures of the pipeline's stages by name, and how they were measured, from metrics/STAGE.json.

    Raises:
        BlipError: a file is no JSON object of figures.
    """
    found = Scores({}, {})
    for path in sorted(directory.glob("*.json")):
        if path.stem in DERIVED:
            continue
        try:
            found |= from_json(json.loads(path.read_text(encoding="utf-8")), path.stem)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise BlipError(
                f"{path}: not a flat JSON object of numbers ({error}); run `dvc repro --force` on its stage"
            ) from None
    found.figures.pop("seconds", None)
    return found


def judge(
    minimums: Mapping[str, float],
    figures: Mapping[str, float],
    best: Mapping[str, float],
    tolerance: Mapping[str, float],
    unfit: Mapping[str, str] | None = None,
) -> Verdict:
    """Hold a candidate's figures against the minimums, and against the champions' best less the tolerance.

    Args:
        tolerance: of each figure of `minimums`.
        unfit: the figures that tell nothing of the candidate, and why.
    """
    unfit = unfit or {}
    return Verdict(
        tuple(
            _check(metric, figures[metric], minimum, best.get(metric), tolerance[metric], unfit.get(metric))
            if metric in figures
            else Check(metric, None, minimum, best.get(metric), _not_measured(metric, figures))
            for metric, minimum in minimums.items()
        )
    )


def _not_measured(metric: str, figures: Mapping[str, float]) -> str:
    """With a figure of the same model and measure that is only called longer: another one's is no hint."""
    parts = set(metric.split("."))
    longer = [name for name in sorted(figures) if parts < set(name.split("."))]
    hint = f"; did you mean {longer[0]}?" if longer else ""
    return f"{metric} is not measured: no metrics/*.json has it{hint}"


def _check(
    metric: str, value: float, minimum: float, best: float | None, tolerance: float, unfit: str | None
) -> Check:
    if math.isnan(value):
        return Check(metric, None, minimum, best, f"{metric} is not a number")
    if unfit:
        return Check(metric, value, minimum, best, f"{metric} is {unfit}")
    if value < minimum:
        return Check(metric, value, minimum, best, f"{metric} is {value:.3f}, below the gate's {minimum:g}")
    if best is not None and value < best - tolerance:
        problem = f"{metric} is {value:.3f}, a champion had {best:.3f} (tolerance {tolerance:g})"
        return Check(metric, value, minimum, best, problem, behind=True)
    return Check(metric, value, minimum, best, "")
