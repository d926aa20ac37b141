"""Validation of pairs datasets: rules over their metadata, a verdict each, pages to read, and a gate.

verdicts = validate(datasets, settings.validate_, pages=Path("reports/data_docs"))
write_validated(Path("data/datasets/validated"), verdicts)      # raises when one did not pass
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from blip.atomic import atomic_path, write_json
from blip.config import Source, Validate
from blip.data.gate import GATE
from blip.data.pairs import PairsDataset
from blip.errors import BlipError
from blip.ingest.shares import shares_of
from blip.validation.checkpoint import Checks
from blip.validation.facts import facts, picture_hashes, with_copies
from blip.validation.findings import Finding, describe
from blip.validation.pages import Page, write_pages
from blip.validation.rules import rules, set_aside_by

__all__ = ["Verdict", "validate", "write_validated"]

SCHEMA = pa.schema([("key", pa.string()), ("expectation", pa.string()), ("detail", pa.string())])


@dataclass(frozen=True)
class Verdict:
    """What validation found in a dataset; `cut` and `alike` as `Facts` has them."""

    name: str
    samples: int
    digest: str
    findings: tuple[Finding, ...]
    max_excluded_share: float
    cut: int
    alike: int

    @cached_property
    def set_aside(self) -> list[tuple[str, str]]:
        """(key, rule) of every sample that is left out from here on; a key may break several rules."""
        return [(key, finding.rule.name) for finding in self.findings for key, _ in finding.set_aside]

    @cached_property
    def excluded(self) -> int:
        """How many samples are set aside."""
        return len({key for key, _ in self.set_aside})

    @property
    def problems(self) -> list[str]:
        """Why the dataset does not pass: rule, demand, what was observed, the way out."""
        found = [
            f"{finding.rule.name}: {finding.rule.demand}; observed {finding.observed}. "
            f"Way out: {finding.rule.way_out}"
            for finding in self.findings
            if finding.stops
        ]
        if self.excluded > self.max_excluded_share * self.samples:
            counts = Counter(rule for _, rule in self.set_aside).most_common()
            reasons = ", ".join(f"{rule} {count:,}" for rule, count in counts)
            found.append(
                f"max_excluded_share: at most {self.max_excluded_share * 100:g}% of the samples are set aside; "
                f"observed {self.excluded:,} of {self.samples:,} ({reasons}). Way out: mend the source, or "
                "loosen these thresholds in params.yaml, section validate"
            )
        return found

    @property
    def passed(self) -> bool:
        """Whether the stages that follow may read the dataset."""
        return not self.problems


def validate(
    datasets: Mapping[str, tuple[PairsDataset, Source]], settings: Validate, pages: Path
) -> list[Verdict]:
    """Check datasets against the rules for their kind and write the Data Docs, whatever the outcome.

    Args:
        datasets: by name, with what params.yaml says of their source.
        pages: where index.html and a page a dataset go; replaced as a whole.
    """
    evaluation = {
        name: picture_hashes(dataset)
        for name, (dataset, source) in datasets.items()
        if source.role == "evaluation"
    }
    near_bits = None if settings.max_near_duplicate_share is None else settings.near_duplicate_bits
    checks = Checks()
    verdicts, written = [], []
    for name, (dataset, source) in datasets.items():
        kept_from = [evaluation[other] for other in source.kept_from(evaluation)]
        others = np.concatenate(kept_from) if kept_from else None
        found = facts(dataset, others)
        asks = bool(found.frame["questions"].sum() > 0 and found.frame["captions"].sum() == 0)
        wanted = rules(name, source, settings, len(dataset), shares_of(dataset, source.kind), asks)
        found = with_copies(found, set_aside_by(wanted, found.frame), near_bits)
        outcomes, result = checks.run(name, found.frame, wanted)
        findings = describe(outcomes, found, dataset)
        share = settings.max_excluded_share
        verdict = Verdict(name, len(dataset), dataset.digest, tuple(findings), share, found.cut, found.alike)
        verdicts.append(verdict)
        written.append(
            Page(name, source.kind, verdict.samples, verdict.excluded, verdict.problems, findings, result)
        )
    write_pages(pages, written)
    return verdicts


def write_validated(directory: Path, verdicts: Sequence[Verdict], left_out: Sequence[str] = ()) -> None:
    """Write the gate: NAME.parquet (key, expectation, detail) of the samples set aside, and gate.json.

    Of datasets that are `left_out` the files are there, too, and empty.

    Raises:
        BlipError: a dataset did not pass, which the gate says then, too; the message lists every reason.
    """
    refused = [verdict for verdict in verdicts if not verdict.passed]
    with atomic_path(directory) as folder:
        folder.mkdir()
        for verdict in verdicts:
            with pq.ParquetWriter(folder / f"{verdict.name}.parquet", SCHEMA) as file:
                for finding in verdict.findings:
                    file.write_table(_table(finding))
        for name in left_out:
            pq.write_table(SCHEMA.empty_table(), folder / f"{name}.parquet")
        summaries = {verdict.name: _summary(verdict) for verdict in verdicts}
        write_json(folder / GATE, {"passed": not refused, "datasets": summaries})
    if refused:
        raise BlipError("\n".join(line for verdict in refused for line in _refusal(verdict)))


def _table(finding: Finding) -> pa.Table:
    keys, details = zip(*finding.set_aside, strict=True) if finding.set_aside else ((), ())
    columns = keys, [finding.rule.name] * len(keys), details
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=SCHEMA)


def _refusal(verdict: Verdict) -> list[str]:
    count = len(verdict.problems)
    return [f"dataset {verdict.name} does not pass validation, {count} reason(s):", *verdict.problems]


def _summary(verdict: Verdict) -> dict[str, object]:
    return {
        "passed": verdict.passed,
        "manifest": verdict.digest,
        "samples": verdict.samples,
        "set_aside": verdict.excluded,
        "by_expectation": dict(Counter(rule for _, rule in verdict.set_aside)),
    }
