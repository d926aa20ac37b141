"""The table of CapFilt's rounds: there when there were several, and the page is then about the last."""

import json
from pathlib import Path

from blip.config import Settings
from blip.report.artefacts import read_artefacts
from blip.report.audit import read_audit
from blip.report.page import Charts, render
from blip.report.provenance import RunFacts, models
from blip.report.results import result_table
from blip.report.rounds import rounds_table

FIGURES = {
    "rounds.1.filter.roc_auc": 0.91,
    "rounds.2.filter.roc_auc": 0.934,
    "rounds.1.captioner.validation.exact_match": 0.31,
    "rounds.2.captioner.validation.exact_match": 0.355,
    "rounds.1.capfilt.web_kept": 0.4,
}


def page(settings: Settings, facts: RunFacts) -> str:
    return render(settings, read_artefacts(Path()), None, facts, Charts([], [], [], []))


def page_with_audit(settings: Settings, facts: RunFacts) -> str:
    audit = read_audit(Path("data/datasets/bootstrapped"), Path("data/datasets/web"), seed=7)
    return render(settings, read_artefacts(Path()), audit, facts, Charts([], [], [], []))


def write_rounds(folder: Path) -> None:
    (folder / "metrics/rounds.json").write_text(json.dumps({**FIGURES, "seconds": 3.0}))


def test_a_figure_is_a_row_and_a_round_a_column() -> None:
    table = rounds_table(FIGURES)
    assert table is not None
    assert table.numbers == [1, 2]
    assert table.rows == [
        ("Captioner on validation, exact match", ["31.0%", "35.5%"]),
        ("Filter on the web texts, ROC AUC", ["0.910", "0.934"]),
        ("Web texts kept", ["40.0%", "–"]),
    ]


def test_what_was_measured_to_be_nothing_is_a_row() -> None:
    dropped = {f"rounds.{number}.capfilt.images_dropped": 0.0 for number in (1, 2)}
    table = rounds_table(FIGURES | dropped)
    assert table is not None
    assert table.rows[-1] == ("Pictures dropped", ["0.0%", "0.0%"])


def test_one_round_has_no_table(finished: Path, settings: Settings, facts: RunFacts) -> None:
    assert rounds_table({name: v for name, v in FIGURES.items() if ".1." in name}) is None
    assert "Round by round" not in page(settings, facts)


def test_the_page_has_the_table_and_is_about_the_last_round(
    finished: Path, settings: Settings, facts: RunFacts
) -> None:
    write_rounds(finished)
    html = page(settings, facts)
    assert '<th class="number">Round 2</th>' in html
    assert '<td class="number">31.0%</td><td class="number">35.5%</td>' in html
    assert "The rest of this section, the results and the models are those of round 2;" in html


def test_the_gallery_is_said_to_be_of_the_first_round(
    finished: Path, settings: Settings, facts: RunFacts
) -> None:
    said = "</a> shows more of them, of round 1."
    assert said not in page_with_audit(settings, facts)
    write_rounds(finished)
    assert said in page_with_audit(settings, facts)


def test_gates_and_results_are_of_the_last_round(finished: Path, settings: Settings, facts: RunFacts) -> None:
    write_rounds(finished)
    found = read_artefacts(finished)
    gates = {model.name: model.gates for model in models(settings, found, facts)}
    assert gates["blip-captioner"] == (("captioner.validation.exact_match", 0.2, 0.355),)
    shown = {row.name: row.value for row in result_table(found, settings.register_.gate)}
    assert (shown["filter.roc_auc"], shown["captioner.validation.exact_match"]) == (0.934, 0.355)
