"""The figures at the end of a run, beside the bars they are held to."""

import io
import json
import shutil
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from rich.console import Console

from blip.atomic import write_text
from blip.config import WRITTEN, load_settings
from blip.lock import hold, let_go
from flows.addresses import ANNOUNCED, UP
from flows.results import (
    FIGURES,
    OUTCOMES,
    PAGE,
    publish_capfilt,
    publish_page,
    result_table,
    rows,
    title,
    where_to_look,
)

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """metrics/summary.json of the current folder."""
    (tmp_path / "metrics").mkdir()
    shutil.copy(PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "metrics/summary.json"


def row(figure: str) -> dict[str, str]:
    return next(row for row in rows() if row["figure"] == figure)


def test_a_figure_that_reaches_its_bar_says_so(summary):
    summary.write_text(json.dumps({"retrieval.i2t_r1": 0.66, "video.t2v_r1": 0.59}))

    assert row("image to text, R@1") == {
        "figure": "image to text, R@1", "value": "66.0 %", "bar": "≥ 55.0 %", "reached": "yes",
        "data": "test data, which no training has read",
    }  # fmt: skip
    assert row("text to video, zero-shot, R@1")["reached"] == "no"


def test_what_all_stages_took_has_no_bar_for_some_ran_beside_others(summary):
    summary.write_text(json.dumps({"seconds.total": 725.4}))

    assert row("time of all stages, one after another") == {
        "figure": "time of all stages, one after another", "value": "12:05 min", "bar": "", "reached": "", "data": "",
    }  # fmt: skip


def test_what_bootstrapping_gave_is_the_difference(summary):
    summary.write_text(json.dumps({"bootstrap.r1_noisy": 0.14, "bootstrap.r1_bootstrapped": 0.42}))

    assert row("what bootstrapping gave, R@1")["value"] == "28.0 %"
    assert row("what bootstrapping gave, R@1")["reached"] == "yes"


def test_what_bootstrapping_gave_comes_with_its_interval(summary):
    r1 = {"bootstrap.r1_noisy": 0.14, "bootstrap.r1_bootstrapped": 0.42, "bootstrap.gain_half": 0.0512}
    summary.write_text(json.dumps(r1))

    assert row("what bootstrapping gave, R@1")["value"] == "28.0 ± 5.1 %"


def test_what_is_of_the_pool_stands_apart_from_what_no_training_has_read(summary):
    summary.write_text(json.dumps({"retrieval.i2t_r1": 0.66, "filter.roc_auc": 0.97, "filter.recall": 0.9}))

    console = Console(width=80, file=io.StringIO())
    console.print(result_table())
    printed = console.file.getvalue().splitlines()
    lines = [line.split("│")[1].strip() for line in printed if "│" in line]
    assert lines == [
        "test data, which no training has read",
        "image to text, R@1",
        "the web pool, read in pre-training",
        "filter against the known noise, ROC AUC",
        "filter, kept of the right web texts",
    ]


def test_figures_of_other_test_data_have_no_bars(summary):
    assert title() == "Figures and their bars"
    mine = PARAMS.read_text().replace("{source: data/sample/test,", "{source: data/mine/test,")
    Path("params.yaml").write_text(mine)
    summary.write_text(json.dumps({"retrieval.i2t_r1": 0.44}))

    assert (row("image to text, R@1")["bar"], row("image to text, R@1")["reached"]) == ("", "")
    assert [column.header for column in result_table().columns] == ["figure", "value"]
    assert title() == "Figures"
    Path("params.yaml").write_text(
        PARAMS.read_text().replace("log_odds, data: test}", "log_odds, data: by_hand}")
    )
    assert title() == "Figures"


def test_figures_of_a_recipe_are_named_after_it(summary):
    Path("infra/recipes").mkdir(parents=True)
    Path("infra/recipes/smoke.yaml").write_text("seed: 1\n")
    Path("params.yaml").write_text(PARAMS.read_text().replace("\nrecipe: null\n", "\nrecipe: smoke\n"))
    assert title() == "Figures and their bars, recipe smoke"


def test_figures_that_are_not_there_are_left_out(summary):
    assert rows() == []
    summary.write_text(json.dumps({"vqa.accuracy": 0.9, "something.else": 1}))

    assert [row["figure"] for row in rows()] == ["visual questions, accuracy"]


def test_every_figure_has_a_line_of_its_own():
    assert (
        len({figure.key for figure in FIGURES}) == len({figure.label for figure in FIGURES}) == len(FIGURES)
    )


@pytest.mark.usefixtures("prefect_api")
def test_an_edit_of_params_yaml_during_a_run_is_nothing_to_its_artifacts(summary):
    write_text(WRITTEN, yaml.safe_dump(load_settings().model_dump(mode="json", by_alias=True)))
    write_text(OUTCOMES, "| Source | of this test alone |")
    Path("params.yaml").write_text("capfilt: {rounds: half an edit")

    publish_capfilt()

    of_capfilt = ArtifactFilter(key=ArtifactFilterKey(any_=["capfilt"]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=of_capfilt)
    assert "| Source | of this test alone |" in [artifact.data for artifact in found]


@pytest.mark.usefixtures("prefect_api")
def test_the_way_to_the_report_is_a_link_only_while_the_pages_are_up(summary):
    def published() -> str:
        publish_page(PAGE, "report of this test", key="report-of-this-test")
        key = ArtifactFilter(key=ArtifactFilterKey(any_=["report-of-this-test"]))
        with get_client(sync_client=True) as client:
            found = client.read_artifacts(artifact_filter=key)
        return str(max(found, key=lambda one: str(one.created)).data)

    page = summary.parents[1] / "reports/pipeline/index.html"
    assert published() == f"report of this test (served by `make ui`): `{page}`"
    write_text(ANNOUNCED, json.dumps({"reports": "http://127.0.0.1:8093"}))
    hold(UP, "the pages", "serves them")
    served = published()
    let_go(UP)
    assert served == "[report of this test (served by `make ui`)](http://127.0.0.1:8093/pipeline/index.html)"


def test_the_way_to_the_pages_names_those_that_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert all(word in where_to_look() for word in ("Prefect", "MLflow", "Data Docs"))
    assert "reports/pipeline/index.html" not in where_to_look()

    write_text(Path("reports/pipeline/index.html"), "the report")
    assert "report       reports/pipeline/index.html\n" in where_to_look()
