"""What a pipeline was made of, how long it took, and what became of its models."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from blip.config import Settings
from blip.report.artefacts import read_artefacts
from blip.report.provenance import (
    RunFacts,
    cells,
    datasets,
    duration,
    licence_notes,
    models,
    times,
    without_readme,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.42, "0.4 s"), (8, "8.0 s"), (64.4, "64 s"), (131, "2:11 min"), (5999.8, "1:40 h"), (7800, "2:10 h")],
)
def test_durations_read_as_a_person_says_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_datasets_have_the_counts_of_ingest(finished: Path, settings: Settings) -> None:
    listed = {data.name: data for data in datasets(settings, read_artefacts(finished))}
    assert list(listed) == list(settings.ingest.datasets)
    assert (listed["web"].samples, listed["web"].origin, listed["test"].role) == (2103, "web", "evaluation")


def test_before_ingest_nothing_is_counted(empty: Path, settings: Settings) -> None:
    assert {data.samples for data in datasets(settings, read_artefacts(empty))} == {None}


def test_refused_texts_stand_beside_the_refused_samples(finished: Path, settings: Settings) -> None:
    figures = json.loads((finished / "metrics/ingest.json").read_text())
    (finished / "metrics/ingest.json").write_text(json.dumps(figures | {"ingest.web.refused_texts": 3}))
    web = next(data for data in datasets(settings, read_artefacts(finished)) if data.name == "web")
    assert (web.quarantined, web.refused_texts) == (0, 3)


def test_a_stage_ran_in_this_pipeline_or_was_kept_or_never_ran(finished: Path, facts: RunFacts) -> None:
    (finished / "metrics/register.json").unlink()
    spans = {stage: span for stage, span in facts.spans.items() if stage != "register"}
    nodes = cells(read_artefacts(finished), replace(facts, spans=spans))
    assert (nodes["ingest"].look, nodes["pretrain"].look, nodes["register"].look) == (
        "kept",
        "ran",
        "missing",
    )
    assert nodes["pretrain"].note == "2:11 min"


def test_bars_of_time_lie_within_the_whole(finished: Path, facts: RunFacts) -> None:
    bars = {bar.stage: bar for bar in times(read_artefacts(finished), facts)}
    assert all(bar.left >= 0 and bar.left + bar.width <= 1 for bar in bars.values())
    assert bars["pretrain"].left < bars["filter"].left
    assert bars["pretrain"].attempts == 2
    assert not bars["ingest"].ran and bars["ingest"].seconds == 4.0


def test_models_say_what_became_of_them(finished: Path, settings: Settings, facts: RunFacts) -> None:
    outcomes = {model.name: model.outcome for model in models(settings, read_artefacts(finished), facts)}
    assert outcomes["blip-base"] == "champion, version 3"
    assert outcomes["blip-captioning"] == "not registered: measured on other weights or with other settings"


def test_a_model_below_its_gate_says_so(finished: Path, settings: Settings, facts: RunFacts) -> None:
    (finished / "metrics/finetune_captioning.json").unlink()
    outcomes = {model.name: model.outcome for model in models(settings, read_artefacts(finished), facts)}
    assert outcomes["blip-captioning"] == "below its gate, not registered"


def test_a_champion_below_its_gate_serves_still(finished: Path, settings: Settings, facts: RunFacts) -> None:
    figures = json.loads((finished / "metrics/register.json").read_text())
    figures |= {"register.blip-base.passed": 0.0}
    (finished / "metrics/register.json").write_text(json.dumps(figures))
    outcomes = {model.name: model.outcome for model in models(settings, read_artefacts(finished), facts)}
    assert outcomes["blip-base"] == "below its gate, still champion, version 3"


def test_a_model_that_was_set_back_by_hand_is_not_called_the_champion(
    finished: Path, settings: Settings, facts: RunFacts
) -> None:
    back = replace(facts, champions={**facts.champions, "blip-base": 1})
    outcomes = {model.name: model.outcome for model in models(settings, read_artefacts(finished), back)}
    assert outcomes["blip-base"] == "passes its gate as version 3, but the champion is version 1"


def test_a_model_that_passes_and_is_not_promoted_is_not_called_the_champion(
    finished: Path, settings: Settings, facts: RunFacts
) -> None:
    without = replace(facts, champions={})
    outcomes = {model.name: model.outcome for model in models(settings, read_artefacts(finished), without)}
    assert outcomes["blip-base"] == "passes its gate as version 3, but there is no champion"


def test_models_are_not_judged_before_register(empty: Path, settings: Settings, facts: RunFacts) -> None:
    assert {m.outcome for m in models(settings, read_artefacts(empty), facts)} == {"not judged yet"}


def test_the_licences_of_the_sample_are_repeated(empty: Path, settings: Settings) -> None:
    (empty / "data/sample").mkdir(parents=True)
    shutil.copy(ROOT / "data/sample/README.md", empty / "data/sample")
    [(path, html, _)] = licence_notes(settings)
    assert path == "data/sample/README.md"
    for name in ("Twemoji", "OpenMoji", "CC-BY-SA-4.0", "Noto Emoji", "easy-vqa", "lobehub", "EfficientNet"):
        assert name in html
    assert "<h4>Attribution</h4>" in html
    assert "Rebuilding" not in html


def test_of_the_samples_licences_those_are_left_out_of_which_nothing_was_read(
    empty: Path, settings: Settings
) -> None:
    (empty / "data/sample").mkdir(parents=True)
    shutil.copy(ROOT / "data/sample/README.md", empty / "data/sample")
    own = {
        name: source.model_copy(update={"source": f"data/own/{name}"})
        for name, source in settings.ingest.datasets.items()
    }
    kept = {**own, "video": settings.ingest.datasets["video"]}
    given = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"datasets": kept})})
    [(_, html, read)] = licence_notes(given)
    assert read == ["data/sample/video", "data/sample/weights/vision.safetensors"]
    assert "lobehub" in html and "EfficientNet" in html
    assert "clean captions" not in html and "easy-vqa" not in html
    assert "data/own/human" in without_readme(given) and "data/sample/video" not in without_readme(given)


def test_html_in_a_readme_is_shown_as_text(empty: Path, settings: Settings) -> None:
    (empty / "data").mkdir()
    (empty / "data/README.md").write_text("# Licence\n\nMIT <script>alert(1)</script>\n")
    [(_, html, _)] = licence_notes(settings)
    assert "&lt;script&gt;" in html and "<script>" not in html


def test_sources_without_a_readme_have_no_notes(empty: Path, settings: Settings) -> None:
    assert licence_notes(settings) == []
