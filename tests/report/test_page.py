"""The page: whole, self-contained, and plain about what is missing."""

import json
import math
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from blip.config import Settings, load_settings
from blip.report.artefacts import read_artefacts
from blip.report.audit import read_audit
from blip.report.graph import NODES
from blip.report.page import Charts, draw_charts, headline, render, training_run
from blip.report.provenance import RunFacts
from blip.report.results import summary

VOID = {"meta", "link", "img", "br", "wbr", "col", "hr", "input"}
BROWSER = Path("/usr/bin/chromium")
A4 = 717  # pixels of a browser between its margins
EXAMPLE_TASKS = ("retrieval", "captioning", "vqa", "classification", "video")


class Reader(HTMLParser):
    """Collects what the page refers to, its text, and tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.unbalanced: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value:
                self.references.append(value)
            if name == "id" and value:
                self.ids.append(value)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("style", "title"):
            self.words.append(data)


def page(root: Path, settings: Settings, facts: RunFacts, *, charts: bool = True) -> str:
    """The page of the folder one is in."""
    found = read_artefacts(root)
    audit = read_audit(root / "data/datasets/bootstrapped", root / "data/datasets/web", seed=settings.seed)
    drawn = draw_charts(settings, found, audit) if charts else Charts([], [], [], [])
    return render(settings, found, audit, facts, drawn)


@pytest.fixture(scope="module")
def whole(left_behind: Path, settings: Settings, facts: RunFacts) -> str:
    """The page of a finished pipeline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(left_behind)
        return page(left_behind, settings, facts)


def test_the_page_needs_nothing_but_itself(whole: str) -> None:
    reader = Reader(whole)
    assert "script" not in reader.tags
    assert not re.search(r"url\((?!#)|@import", whole)
    outside = [r for r in reader.references if not r.startswith(("data:", "#", "http://127.0.0.1:"))]
    assert outside == ["../capfilt/index.html", "../data_docs/index.html"]


def test_the_page_is_well_formed(whole: str) -> None:
    reader = Reader(whole)
    assert reader.unbalanced == []
    assert len(reader.ids) == len(set(reader.ids))
    inner = {reference[1:] for reference in reader.references if reference.startswith("#")}
    assert inner <= set(reader.ids)


def test_the_long_name_of_a_gate_can_be_broken(whole: str) -> None:
    """So that the table of models fits 1,200 pixels, with the mark at its end."""
    assert '<td class="name"><wbr>pretrain_bootstrapped.<wbr>validation.<wbr>itc.<wbr>i2t_r1</td>' in whole


@pytest.mark.skipif(not BROWSER.is_file(), reason=f"there is no {BROWSER}")
def test_nothing_is_cut_off_on_paper(whole: str, tmp_path: Path) -> None:
    parts = "[document.documentElement, ...document.querySelectorAll('.wide, .hits')]"
    cut = f"{parts}.filter(part => part.scrollWidth > part.clientWidth).map(part => part.textContent)"
    told = f"<script>onload = () => document.title = 'cut: ' + JSON.stringify({cut})</script>"
    (tmp_path / "page.html").write_text(whole.replace("@media print", "@media all") + told)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    command = [BROWSER, *options, f"--window-size={A4},1000", "--dump-dom", f"file://{tmp_path}/page.html"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert re.findall("<title>(.*)</title>", shown) == ["cut: []"]


def test_paper_has_the_colours_that_bars_are_made_of(whole: str) -> None:
    assert "print-color-adjust: exact" in whole[whole.index("@media print") :]


def test_the_page_answers_in_order(whole: str) -> None:
    titles = [
        "What ran",
        "Results",
        "What CapFilt changed",
        "Training",
        "Noisy or bootstrapped pre-training",
        "Examples from the held-out data",
        "Time, checks, models",
        "Sources and licences",
    ]
    assert re.findall(r"<h2>(.*?)</h2>", whole) == titles


def test_the_page_shows_the_figures(whole: str) -> None:
    text = Reader(whole).text
    for said in (
        "66.3%",
        "5.46",
        "4f0c2d9a17",
        "50.0% were wrong before filtering",
        "from 13.0% to 38.0%",
        "+25.0 ± 5.1 points over 424 pictures",
        "for 800 steps, the second for 900",
        "The source of a picture is told by column truth_artist of the pool's metadata",
        "artist 2 8",
        "models:/blip-base@champion",
        "61 expectations were checked before anything was trained; 2 gave a warning. 166 samples were set aside.",
        "24 pictures drawn by seed 7, 16 right and 8 wrong; 12 of them are shown. Of all 424, 66.7% are right.",
        "2:11 min",
    ):
        assert said in text, said


def test_a_training_run_has_its_speed_and_memory(whole: str, finished: Path) -> None:
    cells = ("610", "37%", "2%", "1.4")
    assert "".join(f'<td class="number">{cell}</td>' for cell in cells) in whole
    (finished / "metrics/curves/pretrain.csv").write_text(
        "step,loss,mfu\n20,3.0,\n40,2.0,0.25\n60,2.0,0.35\n"
    )
    run = training_run("pretrain", read_artefacts(finished).curves["pretrain"])
    assert run.mfu == 0.3
    assert math.isnan(run.memory_gb)


def test_shares_of_a_peak_that_some_rows_are_above_are_not_shown() -> None:
    curve = {"step": [20, 40, 60], "loss": [3.0, 2.0, 1.0], "pairs_per_second": [math.nan, 90.0, 120.0]}
    assert training_run("pretrain", curve | {"mfu": [math.nan, 0.9, 0.95]}).mfu == pytest.approx(0.925)
    assert math.isnan(training_run("pretrain", curve | {"mfu": [math.nan, 0.9, math.nan]}).mfu)


def test_a_dropped_text_is_struck_out_and_a_kept_one_is_not(whole: str) -> None:
    assert re.search(r'<del class="said" title="[^"]*">DSC_\d+\.JPG</del>', whole)
    assert re.search(r'<span class="said" title="[^"]*">thing \d+</span>', whole)


def test_a_text_that_a_synthetic_caption_replaces_is_not_called_rescued(whole: str) -> None:
    """Rescued are pictures that keep a caption which is right, `capfilt.rescued`; these are all that keep one."""
    assert "Replaced: wrong text dropped, synthetic caption kept" in whole
    assert "escued" not in whole


def test_an_answer_that_some_people_gave_is_shown_with_its_accuracy(
    finished: Path, settings: Settings, facts: RunFacts
) -> None:
    path = finished / "reports/evaluate/vqa/examples.json"
    assert "; accuracy" not in Reader(page(finished, settings, facts, charts=False)).text
    path.write_text(path.read_text().replace('"accuracy": 1.0', '"accuracy": 0.6667', 1))
    text = Reader(page(finished, settings, facts, charts=False)).text
    assert "right ; accuracy 67%" in text
    assert "one is right here from an accuracy of 50% on" in text


def test_texts_from_outside_cannot_become_markup(finished: Path, settings: Settings, facts: RunFacts) -> None:
    path = finished / "reports/evaluate/captioning/examples.json"
    path.write_text(path.read_text().replace("thing 0", "<script>alert(1)</script>"))
    html = page(finished, settings, facts, charts=False)
    assert "script" not in Reader(html).tags
    assert "&lt;script&gt;" in html


def test_a_page_of_nothing_names_every_stage_that_has_not_run(
    empty: Path, settings: Settings, facts: RunFacts
) -> None:
    reader = Reader(page(empty, settings, facts))
    assert reader.unbalanced == []
    stages = ("ingest", "capfilt", "pretrain", "compare", "validate", "register")
    for stage in (*stages, *(f"evaluate@{task}" for task in EXAMPLE_TASKS)):
        assert f"stage {stage} has not run" in reader.text


@pytest.mark.parametrize("stage", [stage for stage in NODES if stage != "report"])
def test_the_page_does_without_any_one_stage(
    finished: Path, settings: Settings, facts: RunFacts, stage: str
) -> None:
    for path in finished.rglob(f"{stage.replace('@', '_')}.*"):
        path.unlink()
    task = stage.removeprefix("evaluate@")
    (finished / f"reports/evaluate/{task}/examples.json").unlink(missing_ok=True)
    assert "17 of 18 stages are done" in headline(settings, read_artefacts(finished), facts).replace(
        "\u00a0", " "
    )
    assert Reader(page(finished, settings, facts, charts=False)).unbalanced == []


def test_the_headline_says_how_it_went(finished: Path, settings: Settings, facts: RunFacts) -> None:
    def said(champions: Mapping[str, int]) -> str:
        return headline(settings, found, replace(facts, champions=champions)).replace("\u00a0", " ")

    found = read_artefacts(finished)
    done = "All 18 stages are done, and 5 of 6 models reach their gate"
    every = {name: int(found.figures[f"register.{name}.version"]) for name in settings.gate}
    assert said(every) == done
    assert said(every | {"blip-base": 1}) == f"{done}, 4 of them as champions"
    assert said({}) == f"{done}, none of them as champion"


def test_a_challenger_reaches_its_gate_in_the_headline_as_in_the_results(
    finished: Path, settings: Settings, facts: RunFacts
) -> None:
    path = finished / "metrics/register.json"
    judged = {"register.blip-captioning.passed": 0.0, "register.blip-captioning.version": 2.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | judged))
    found = read_artefacts(finished)
    champions = {name: int(found.figures[f"register.{name}.version"]) for name in settings.gate}
    said = headline(settings, found, replace(facts, champions=champions | {"blip-captioning": 1}))
    assert said.endswith("all 6 models reach their gate, 5\u00a0of\u00a0them as champions")
    still = headline(settings, found, replace(facts, champions=champions))
    assert "5\u00a0of\u00a06 models reach their gate" in still, "below its gate, still champion"


def test_a_figure_just_below_its_gate_is_seen_to_be_below(finished: Path, facts: RunFacts) -> None:
    figure = "pretrain_bootstrapped.validation.itc.i2t_r1"
    near = load_settings(overrides={"register.gate": {"blip-base": {figure: 0.4304}}})
    text = Reader(page(finished, near, facts, charts=False)).text
    assert "i2t_r1 0.4304 0.4300" in text


def test_a_pool_without_known_truth_is_shown_without(
    finished: Path, settings: Settings, facts: RunFacts
) -> None:
    (finished / "data/datasets/web/metadata.parquet").unlink()
    (finished / "metrics/capfilt.json").write_text('{"capfilt.threshold": 0.5, "seconds": 1}')
    text = Reader(page(finished, settings, facts, charts=False)).text
    assert "web texts were kept" in text
    assert "Right web texts" not in text
    assert "known truth" not in text and "right web texts" not in text


def test_where_no_web_text_is_kept_none_of_the_kept_is_said_to_be_wrong(
    finished: Path, settings: Settings, facts: RunFacts
) -> None:
    path = finished / "data/datasets/bootstrapped/audit.parquet"
    table = pq.read_table(path)
    nothing = {"web_kept": [False], "web_reason": ["no_match"], "synthetic_kept": [False]}
    rows = [row | nothing | {"synthetic_reason": ["no_match"]} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    metrics = finished / "metrics/capfilt.json"
    figures = json.loads(metrics.read_text())
    del figures["filter.precision"], figures["capfilt.synthetic_right_kept"]
    metrics.write_text(json.dumps(figures | {"filter.recall": 0.0}))
    text = Reader(page(finished, settings, facts, charts=False)).text
    assert "50.0% were wrong before filtering, and none was kept." in text
    assert "at the threshold of 0.5, no web text is kept." in text
    assert "Exactly the true label are 41.0% of all synthetic captions; sentences" in text


def test_a_missing_picture_leaves_a_labelled_gap(finished: Path, settings: Settings, facts: RunFacts) -> None:
    (finished / "reports/evaluate/vqa/images/test-0000.webp").unlink()
    assert "no picture" in Reader(page(finished, settings, facts, charts=False)).text


def test_a_stage_that_was_taken_out_of_dvc_yaml_is_not_waited_for(
    finished: Path, settings: Settings, facts: RunFacts
) -> None:
    path = finished / "dvc.yaml"
    stages = yaml.safe_load(path.read_text())
    del stages["stages"]["compare"]
    path.write_text(yaml.safe_dump(stages))
    (finished / "metrics/compare.json").unlink()
    found = read_artefacts(finished)
    assert headline(settings, found, facts).startswith("All 17 stages are done")
    assert summary(found, 1.0)["seconds.total"] > 0
