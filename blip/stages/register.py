"""blip stage register: models that pass the gate become the champions of the MLflow registry.

Reads models/* and metrics/*.json; writes the registry and metrics/register.json: `register.NAME.passed` (1 or
0) and `register.NAME.version` (0: not registered). A model that does not pass is said so and stops nothing.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from blip.config import Settings
from blip.config.places import MODELS
from blip.errors import BadArguments
from blip.tasks.rounds import ROUNDS, last_model, of_last_round
from blip.tracking import gate, registry
from blip.tracking.lineage import lineage
from blip.tracking.runs import StageRun, training_run

STILL = "below its gate, still champion"


@dataclass(frozen=True)
class Candidate:
    """A model of the pipeline: its directory, the stage that trained it, what it is served for."""

    directory: Path
    stage: str
    task: str

    def of_last_round(self, settings: Settings) -> "Candidate":
        """The model that stands in its place with more than one round of CapFilt; itself where none does."""
        last = last_model(self.stage, settings)
        return self if last == self.stage else replace(self, directory=MODELS / last, stage=ROUNDS)


CANDIDATES = {
    "blip-base": Candidate(MODELS / "pretrain_bootstrapped", "pretrain_bootstrapped", "embed"),
    "blip-captioner": Candidate(MODELS / "captioner", "captioner", "caption"),
    "blip-filter": Candidate(MODELS / "filter", "filter", "match"),
    "blip-retrieval": Candidate(MODELS / "retrieval", "finetune@retrieval", "match"),
    "blip-captioning": Candidate(MODELS / "captioning", "finetune@captioning", "caption"),
    "blip-vqa": Candidate(MODELS / "vqa", "finetune@vqa", "answer"),
}


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate."""

    verdict: gate.Verdict
    version: int
    standing: str


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Judge every model that the gate names, register and promote those that pass, print the table.

    Raises:
        BadArguments: the gate names a model that the pipeline does not make.
        BlipError: a model directory or the registry is missing.
    """
    figures = of_last_round(gate.read_figures())
    metrics: dict[str, float] = {}
    outcomes: dict[str, Outcome] = {}
    for name, minimums in settings.register_.gate.items():
        outcome = outcomes[name] = _judge(name, minimums, figures, settings, run)
        metrics[f"register.{name}.passed"] = float(outcome.verdict.passed)
        metrics[f"register.{name}.version"] = float(outcome.version)
    _print(outcomes)
    return metrics


def _judge(
    name: str, minimums: dict[str, float], figures: dict[str, float], settings: Settings, run: StageRun
) -> Outcome:
    if name not in CANDIDATES:
        raise BadArguments(f"register.gate: no model {name!r}; the pipeline makes: {', '.join(CANDIDATES)}")
    candidate = CANDIDATES[name].of_last_round(settings)
    digest, tolerance = registry.weights_digest(candidate.directory), settings.register_.tolerance
    champion = registry.champion(name)
    verdict = gate.judge(minimums, figures, _to_beat(champion, digest), tolerance)
    if not verdict.good_enough and champion and champion.digest == digest:
        return Outcome(verdict, champion.number, f"{STILL} v{champion.number}")
    if not verdict.good_enough:
        return Outcome(verdict, 0, "refused")
    version, _ = registry.register(
        name,
        candidate.directory,
        run_id=run.run_id,
        figures={metric: figures[metric] for metric in minimums},
        tags={**lineage(candidate.stage, settings), **training_run(run.client, candidate.stage, settings)},
        task=candidate.task,
    )
    champion = registry.champion(
        name
    )  # of a server that others share: perhaps another one since, uploads take minutes
    verdict = gate.judge(minimums, figures, _to_beat(champion, digest), tolerance)
    alias = registry.CHAMPION if verdict.passed else registry.CHALLENGER
    registry.promote(name, version.number, alias, _best(version.figures, champion.best if champion else {}))
    return Outcome(verdict, version.number, f"{alias} v{version.number}")


def _to_beat(champion: registry.Version | None, digest: str) -> dict[str, float]:
    """What a model with these weights is held against besides the minimums; nothing where they are the champion's."""
    return champion.best if champion and champion.digest != digest else {}


def _best(figures: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {metric: max(value, before.get(metric, value)) for metric, value in figures.items()}


def _print(outcomes: dict[str, Outcome]) -> None:
    """The figures as a table, and below it, a line each, why a model is not the champion."""
    console = Console()
    table = Table("model", "outcome", "figure", "value", "minimum", "best champion", title="Registry")
    for name, outcome in outcomes.items():
        _add_rows(table, name, outcome)
    console.print(table)
    for name, outcome in outcomes.items():
        for reason in outcome.verdict.reasons:
            still = outcome.standing.startswith(STILL)
            said = f"{name} is the champion still, though" if still else f"{name} is not the champion:"
            console.print(f"{said} {reason}", style="red", soft_wrap=True, highlight=False)
        if outcome.standing.startswith(registry.CHALLENGER):
            print(f"`blip promote {name} {outcome.version}` makes it the champion all the same")


def _add_rows(table: Table, name: str, outcome: Outcome) -> None:
    style = "green" if outcome.verdict.passed else "red"
    for row, check in enumerate(outcome.verdict.checks):
        table.add_row(
            name if row == 0 else "",
            outcome.standing if row == 0 else "",
            check.metric,
            "-" if check.value is None else f"{check.value:.3f}",
            f"{check.minimum:g}",
            "-" if check.best is None else f"{check.best:.3f}",
            style=style,
        )
