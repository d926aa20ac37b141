"""Rules run by Great Expectations: a Checkpoint a dataset, over the frame of its facts.

Source -> Asset -> BatchDefinition -> Suite -> ValidationDefinition -> Checkpoint. Great Expectations takes
seconds to import, so it is imported when the first dataset is checked.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip.errors import BlipError
from blip.validation.rules import Rule

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext

ROWS = ("unexpected_index_list", "unexpected_list", "partial_unexpected_index_list")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one rule.

    Attributes:
        passed: it holds.
        samples: how many the dataset has.
        rows: where in the table those stand that break it; none for a rule about the whole.
    """

    rule: Rule
    passed: bool
    samples: int
    rows: NDArray[np.int64]


class Checks:
    """A Great Expectations context in memory, and a Checkpoint for every dataset that is checked in it."""

    def __init__(self) -> None:
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        self._gx = gx
        self._context: EphemeralDataContext = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)
        self._source = self._context.data_sources.add_pandas("pairs datasets")

    def run(
        self, name: str, frame: pd.DataFrame, rules: Iterable[Rule]
    ) -> tuple[list[Outcome], ExpectationSuiteValidationResult]:
        """Check a dataset's facts.

        Returns:
            An outcome a rule, and Great Expectations' own result for its renderers, without the rows.
        """
        by_name = {rule.name: rule for rule in rules}
        gx = self._gx
        batch = self._source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all samples")
        suite = gx.ExpectationSuite(
            name=name, expectations=[self._expectation(rule) for rule in by_name.values()]
        )
        suite = self._context.suites.add(suite)
        definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[self._context.validation_definitions.add(definition)],
            result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = self._context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame})
        (result,) = done.run_results.values()
        return [_outcome(by_name[_rule_name(item)], item, len(frame)) for item in result.results], result

    def _expectation(self, rule: Rule) -> Any:
        kind = getattr(self._gx.expectations, rule.expectation)
        severity = "critical" if rule.critical else "warning"
        return kind(**rule.arguments, severity=severity, description=rule.demand, meta={"rule": rule.name})


def _rule_name(item: Any) -> str:
    return item.expectation_config.meta["rule"]


def _outcome(rule: Rule, item: Any, samples: int) -> Outcome:
    """Take the rows out of a result: the pages would show a cell of numbers for each value."""
    raised = [info for info in _exceptions(item.exception_info) if info.get("raised_exception")]
    if raised:
        raise BlipError(f"rule {rule.name} could not be checked: {raised[0].get('exception_message')}")
    rows = np.array(item.result.get("unexpected_index_list") or [], np.int64)
    for name in ROWS:
        item.result.pop(name, None)
    return Outcome(rule, bool(item.success), samples, rows)


def _exceptions(info: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Great Expectations gives one description, or one for each of the metrics it needed."""
    if not info or "raised_exception" in info:
        return [info or {}]
    return list(info.values())
