"""blip stage validate: nothing trains on a dataset that has not passed.

Checks every ingested dataset, writes Data Docs to reports/data_docs and, to data/datasets/validated, the samples set
aside (NAME.parquet: key, expectation, detail) and gate.json, against which a dataset is held when it is opened.
`blip inspect data/datasets/NAME` shows them beside what ingest refused.
"""

from collections import Counter

from rich.console import Console
from rich.table import Table

from blip.config import Settings, Validate
from blip.config.dvc_yaml import left_out
from blip.config.places import DATA_DOCS, DATASETS, VALIDATED
from blip.data.pairs import PairsDataset
from blip.data.text import CAPTION_WORDS
from blip.errors import BlipError
from blip.tracking.runs import StageRun
from blip.validation import Verdict, validate, write_validated


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Validate all datasets of the settings.

    Raises:
        BlipError: a dataset is missing or does not pass; the message names dataset, rule, what was observed
            and the way out. The pages are written all the same.
    """
    datasets = {
        name: (PairsDataset.open(DATASETS / name), source)
        for name, source in settings.ingest.datasets.items()
    }
    verdicts = validate(datasets, _thresholds(settings), DATA_DOCS)
    run.log_artifact(DATA_DOCS, DATA_DOCS.name)
    run.set_tags({"blip.data_docs": f"{DATA_DOCS.name}/index.html"})  # a place among the run's artifacts
    _print(verdicts)
    try:
        write_validated(VALIDATED, verdicts, left_out(settings.ingest))
    except BlipError as error:
        raise BlipError(f"{error}\nEvery finding: {DATA_DOCS / 'index.html'}") from None
    return _metrics(verdicts)


def _thresholds(settings: Settings) -> Validate:
    """What was accepted at ingest is accepted here, unless a share of its own is set."""
    share = settings.validate_.max_bad_share
    limit = settings.ingest.max_bad_fraction if share is None else share
    return settings.validate_.model_copy(update={"max_bad_share": limit})


def _metrics(verdicts: list[Verdict]) -> dict[str, float]:
    findings = [finding for verdict in verdicts for finding in verdict.findings]
    metrics = {
        "validate.expectations": float(len(findings)),
        "validate.warnings": float(sum(not finding.passed for finding in findings)),
    }
    for verdict in verdicts:
        metrics[f"validate.{verdict.name}.samples"] = float(verdict.samples)
        metrics[f"validate.{verdict.name}.set_aside"] = float(verdict.excluded)
    return metrics


def _print(verdicts: list[Verdict]) -> None:
    table = Table("dataset", "samples", "set aside", "by rule", "outcome", title="Validation")
    for verdict in verdicts:
        counts = Counter(rule for _, rule in verdict.set_aside).most_common()
        reasons = ", ".join(f"{count:,} {rule}" for rule, count in counts)
        table.add_row(
            verdict.name, f"{verdict.samples:,}", f"{verdict.excluded:,}", reasons, _outcome(verdict)
        )
    Console().print(table)
    for verdict in verdicts:
        if verdict.cut:
            print(f"note: {_cut(verdict)}", flush=True)


def _cut(verdict: Verdict) -> str:
    """How many captions of a dataset are not read to their end, and what that makes equal."""
    alike = f"; {verdict.alike:,} captions differ from another only behind these" if verdict.alike else ""
    return (
        f"{verdict.name}: {verdict.cut:,} of {verdict.samples:,} samples have a caption of more than {CAPTION_WORDS} "
        f"words, of which the first {CAPTION_WORDS} are read{alike}"
    )


def _outcome(verdict: Verdict) -> str:
    if not verdict.passed:
        return "[red]failed[/red]"
    warnings = sum(not finding.passed for finding in verdict.findings)
    return f"[yellow]passed, {warnings} warning(s)[/yellow]" if warnings else "passed"
