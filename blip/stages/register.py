"""blip stage register: models that pass the gate become the champions of the MLflow registry.

Reads models/* and metrics/*.json; writes the registry and metrics/register.json: `register.NAME.passed` (1 or
0) and `register.NAME.version` (0: not registered). A model that does not pass is said so and stops nothing.

The gate's figures are those of validation data: models are chosen by them, so that what the test data say of a champion
is no choice's luck. A version carries both. The figures have to be of the weights that are here, with the settings of
now. A champion that was measured on other data or with other settings is not compared: what reaches the minimums on
the data that the project has now takes its place, and the way back is said. A model that was judged before and is not
the champion keeps what it has, unless it was measured anew, as the champion was. One that lost its place by hand, with
`blip promote`, gets it back by hand alone; and with `register.promote: false` no model becomes anything.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Column, Table

from blip.config import Settings
from blip.config.rounds import ROUNDS, of_last_round
from blip.stages import STAGES
from blip.stages.gated import CANDIDATES, require_gate
from blip.tracking import gate, registry, store
from blip.tracking.measured import Measured, Scores
from blip.tracking.runs import StageRun, training_run

SENTENCE = 5  # words of a reference on average, from which references are sentences and not names
STILL = "still champion"
KEPT = "registered"
UNTOUCHED = "register.promote is false"
AGAIN = "all models are there: `dvc repro --single-item register` once that is mended"


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate.

    Attributes:
        before: the champion that it found.
        otherwise: the gate's figures of that one that were measured otherwise, and so are not compared.
        kept: why it is what it was, be its figures as they may; "" where they decide.
    """

    verdict: gate.Verdict
    version: int
    standing: str
    before: registry.Version | None = None
    otherwise: tuple[str, ...] = ()
    kept: str = ""


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Judge every model that the gate names, register and promote those that pass, print the table.

    Raises:
        BadArguments: the gate names a model that the pipeline does not make, or a figure that it does not measure.
        BlipError: a model directory or the registry is missing, or this takes no model.
    """
    require_gate(settings)
    found = gate.read_scores()
    scores = Scores(of_last_round(found.figures), of_last_round(found.measured))
    metrics: dict[str, float] = {}
    outcomes: dict[str, Outcome] = {}
    _warn_of_sentences(settings.gate, scores.figures)
    _warn_of_test_data(settings.gate, scores.measured)
    for name, minimums in settings.gate.items():
        with store.takes(name, AGAIN):
            outcome = outcomes[name] = _judge(name, minimums, scores, settings, run)
        metrics[f"register.{name}.passed"] = float(outcome.verdict.passed)
        metrics[f"register.{name}.version"] = float(outcome.version)
    _print(outcomes)
    return metrics


def _judge(
    name: str, minimums: dict[str, float], scores: Scores, settings: Settings, run: StageRun
) -> Outcome:
    candidate = CANDIDATES[name].of_last_round(settings)
    digest = registry.weights_digest(candidate.directory)
    tolerance = {metric: settings.register_.tolerance_of(metric) for metric in minimums}
    unfit = {
        metric: why for metric in minimums if (why := _unfit(scores.measured.get(metric), digest, settings))
    }
    how = {metric: scores.measured[metric].how for metric in minimums if metric in scores.measured}
    champion = registry.champion(name)
    verdict = gate.judge(minimums, scores.figures, _to_beat(champion, digest, how), tolerance, unfit)
    if not verdict.good_enough and champion and champion.digest == digest:
        return Outcome(verdict, champion.number, f"{STILL} v{champion.number}")
    if not verdict.good_enough:
        return Outcome(verdict, 0, "refused", champion, _otherwise(champion, digest, how))
    told = _of_weights(scores, digest, settings, minimums)
    known = registry.with_same_weights(name, digest)
    version, _ = registry.register(
        name,
        candidate.directory,
        run_id=run.run_id,
        figures=told.figures,
        how={metric: measured.how for metric, measured in told.measured.items()},
        tags=training_run(run.client, candidate.stage, digest, settings),
        task=candidate.task,
    )
    # Of a server that others share: perhaps another one since, uploads take minutes
    champion = registry.champion(name)
    verdict = gate.judge(minimums, scores.figures, _to_beat(champion, digest, how), tolerance)
    otherwise = _otherwise(champion, digest, how)
    if kept := _kept(version, known, champion, how, settings):
        return Outcome(verdict, version.number, f"{KEPT} v{version.number}", champion, otherwise, kept)
    alias = registry.CHAMPION if verdict.passed else registry.CHALLENGER
    best = _best(
        {metric: scores.figures[metric] for metric in minimums}, champion.best_alike(how) if champion else {}
    )
    registry.promote(name, version.number, alias, best)
    return Outcome(verdict, version.number, f"{alias} v{version.number}", champion, otherwise)


def _kept(
    version: registry.Version,
    known: list[registry.Version],
    champion: registry.Version | None,
    how: dict[str, str],
    settings: Settings,
) -> str:
    """Why a version stays what it is; "" where its figures decide.

    Args:
        known: the versions with the same weights, as they were before, newest first.
        how: of the gate's figures, as they are measured now.
    """
    if champion and champion.number == version.number:
        return ""
    if not settings.register_.promote:
        return UNTOUCHED
    judged = [one.number for one in known if one.judged]
    if champion is None or not judged:
        return ""
    if version.set_back:
        return f"another was promoted by hand in its place, and now version {champion.number} is"
    if champion.digest == version.digest:  # served otherwise
        new = version.number not in judged
    else:
        anew = any(known[0].how.get(metric) != value for metric, value in how.items())
        new = anew and not _otherwise(champion, version.digest, how)
    return "" if new else f"its weights were judged before, and now version {champion.number} is"


def _unfit(measured: Measured | None, digest: str, settings: Settings) -> str:
    """Why a figure tells nothing of the model with these weights, and the way out; "" where it does."""
    if measured is None:
        return "of no known weights: run the stage that measures it again"
    problem = measured.problem(digest, settings)
    stage = next((name for name in STAGES if name.replace("@", "_") == measured.stage), measured.stage)
    return problem and f"{problem}: run `blip stage {stage}`"


def _of_weights(scores: Scores, digest: str, settings: Settings, minimums: Mapping[str, float]) -> Scores:
    """The gate's figures, and all that tell of these weights alone, with the settings of now."""
    fit = {
        name: how
        for name, how in scores.measured.items()
        if name in minimums
        or (
            how.weights == (digest,)
            and not how.problem(digest, settings)
            and not name.startswith(f"{ROUNDS}.")
        )
    }
    return Scores({name: scores.figures[name] for name in fit}, fit)


def _warn_of_sentences(gate_of: dict[str, dict[str, float]], figures: dict[str, float]) -> None:
    """Say of which models the gate asks for captions that are exactly a reference, where references are sentences."""
    for name, minimums in gate_of.items():
        for metric, minimum in minimums.items():
            task, _, measure = metric.rpartition(".")
            words = figures.get(f"{task}.reference_words", 0.0)
            if measure == "exact_match" and minimum > 0 and words >= SENTENCE:
                print(
                    f"warning: register.gate: {name} must reach {metric} {minimum:g}, but references have {words:.0f} "
                    f"words on average, and few captions are exactly one of them; name {task}.cider instead",
                    file=sys.stderr,
                )


def _warn_of_test_data(gate_of: dict[str, dict[str, float]], measured: Mapping[str, Measured]) -> None:
    """Say which figures of the gate are of test data, by which the champion would be chosen."""
    for name, minimums in gate_of.items():
        for metric in minimums:
            stage = measured[metric].stage if metric in measured else ""
            if stage == "compare" or stage.startswith("evaluate_"):
                print(
                    f"warning: register.gate: {name} must reach {metric}, of test data (metrics/{stage}.json), which "
                    "tells too much of a model that it has chosen; name a figure of validation data if there is one",
                    file=sys.stderr,
                )


def _to_beat(champion: registry.Version | None, digest: str, how: dict[str, str]) -> dict[str, float]:
    """What a model with these weights is held against besides the minimums; nothing where they are the champion's."""
    return champion.best_alike(how) if champion and champion.digest != digest else {}


def _otherwise(champion: registry.Version | None, digest: str, how: dict[str, str]) -> tuple[str, ...]:
    """The figures of another champion that cannot be compared."""
    if champion is None or champion.digest == digest:
        return ()
    return tuple(metric for metric in how if metric not in champion.best_alike(how))


def _best(figures: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {metric: max(value, before.get(metric, value)) for metric, value in figures.items()}


def _print(outcomes: dict[str, Outcome]) -> None:
    """The figures as a table, and below it, a line each, why a model is not the champion."""
    console = Console()
    figure = Column("figure", overflow="fold")
    table = Table("model", "outcome", figure, "value", "minimum", "best champion", title="Registry")
    for name, outcome in outcomes.items():
        _add_rows(table, name, outcome)
    console.print(table)
    for name, outcome in outcomes.items():
        for reason in outcome.verdict.reasons:
            still = outcome.standing.startswith(STILL)
            said = f"{name} is the champion still, though" if still else f"{name} is not the champion:"
            console.print(f"{said} {reason}", style="red", soft_wrap=True, highlight=False)
        if outcome.kept == UNTOUCHED:
            continue
        if outcome.kept and outcome.verdict.passed:
            print(f"{name} is not the champion, though it passes: {outcome.kept}")
        if outcome.standing.startswith((registry.CHALLENGER, KEPT)):
            print(f"`blip promote {name} {outcome.version}` makes it the champion all the same")
        if outcome.before and outcome.otherwise and outcome.standing.startswith(registry.CHAMPION):
            print(_replaced(name, outcome.before.number, outcome.otherwise))
    if any(outcome.kept == UNTOUCHED for outcome in outcomes.values()):
        print(f"{UNTOUCHED}, so no champion changes; `blip promote NAME VERSION` makes one")


def _replaced(name: str, number: int, otherwise: tuple[str, ...]) -> str:
    return (
        f"{name}: the champion before, version {number}, was measured on other data or with other settings, or by "
        f"other figures, so its {' and '.join(otherwise)} was not compared; "
        f"`blip promote {name} {number}` brings it back"
    )


def _add_rows(table: Table, name: str, outcome: Outcome) -> None:
    style = "green" if outcome.verdict.passed else "red"
    for row, check in enumerate(outcome.verdict.checks):
        none = "not compared" if check.metric in outcome.otherwise else "-"
        table.add_row(
            name if row == 0 else "",
            outcome.standing if row == 0 else "",
            check.metric,
            "-" if check.value is None else f"{check.value:.3f}",
            f"{check.minimum:g}",
            none if check.best is None else f"{check.best:.3f}",
            style=style,
        )
