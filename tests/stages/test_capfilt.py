"""Stage capfilt on small datasets and models: the dataset, its page, what MLflow and the figures get."""

import json
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from blip.capfilt import bootstrap
from blip.capfilt.calibration import Measured, measure
from blip.capfilt.embedding import embed_pool
from blip.capfilt.inputs import Models, Pairs
from blip.capfilt.judge import Jury
from blip.capfilt.jury import jury_of
from blip.config import CapFilt, Settings, load_settings
from blip.errors import BlipError
from blip.stages import run_stage
from blip.stages.bootstrapping import write_bootstrapped
from blip.tracking import store
from blip.tracking.measured import from_json
from blip.tracking.registry import weights_digest
from blip.training.heartbeat import Heartbeat
from tests import tiny

from .conftest import ROOT, pictures, write

ARTISTS = ("twemoji", "openmoji", "fxemoji")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a project folder, now the current one, with a pool by three artists."""
    monkeypatch.setenv("BLIP_WORKERS", "1")
    monkeypatch.chdir(tmp_path)
    drawn = list(islice(pictures("test"), 16))
    pool = [
        replace(
            sample,
            key=f"web-{number}",
            captions=(replace(sample.captions[0], origin="web"),),
            truth={
                "matched": number % 2,
                "caption_true": "a bus",
                "noise": "shop",
                "artist": ARTISTS[number % 3],
            },
        )
        for number, sample in enumerate(drawn[:12])
    ]
    write(tmp_path, "web", pool)
    write(tmp_path, "human", drawn[12:])
    write(tmp_path, "validation", list(islice(pictures("validation"), 6)))
    for seed, name in enumerate(("captioner", "filter")):
        tiny.save(tmp_path / "models" / name, seed)
    changed = {"compute.device": "cpu", "capfilt.threshold": 0.5, "capfilt.min_tokens": 1}
    return load_settings(ROOT / "params.yaml", overrides=changed)


def test_the_stage_leaves_a_page_and_its_tables_on_disk_and_with_the_run(settings: Settings) -> None:
    figures = run_stage("capfilt", settings)

    audit = pq.read_table("data/datasets/bootstrapped/audit.parquet").to_pylist()
    kept = sum(any(row["web_kept"]) or any(row["synthetic_kept"]) for row in audit)
    page = Path("reports/capfilt/index.html").read_text(encoding="utf-8")
    assert "<code>data/datasets/bootstrapped/audit.parquet</code>" in page and ".capfilt" not in page
    tables = Path("reports/capfilt/summary.md").read_text(encoding="utf-8")
    assert f"{kept} of 12 pictures stay" in page
    assert page.count('src="data:image/webp;base64,') >= 12
    assert tables.startswith(f"{kept} of 12 pictures stay")
    assert all(f"| {artist} | 4 |" in tables for artist in ARTISTS)

    client = store.client()
    [experiment] = [e.experiment_id for e in client.search_experiments() if e.name != "Default"]
    [run] = client.search_runs([experiment], "tags.`blip.stage` = 'capfilt'")
    logged = {file.path for file in client.list_artifacts(run.info.run_id, "capfilt")}
    drawn = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
    assert logged == {"capfilt/index.html", "capfilt/summary.md"}
    assert {"figures/texts-score-good.png", "figures/kept-by-source.png"} <= drawn
    assert run.data.metrics["capfilt.web_kept.twemoji"] == figures["capfilt.web_kept.twemoji"]


def test_the_shares_of_the_sources_are_those_of_the_audit(settings: Settings) -> None:
    run_stage("capfilt", settings)

    figures = json.loads(Path("metrics/capfilt.json").read_text())
    rows = pq.read_table("data/datasets/bootstrapped/audit.parquet").to_pylist()
    for place, artist in enumerate(ARTISTS):
        own = [row for row in rows if int(row["key"].removeprefix("web-")) % 3 == place]
        dropped = sum(row["reason"] != "" for row in own) / len(own)
        assert figures[f"capfilt.web_kept.{artist}"] == sum(any(row["web_kept"]) for row in own) / len(own)
        assert figures[f"capfilt.images_dropped.{artist}"] == dropped


@pytest.mark.parametrize("threshold", [0.5, {"keep": 0.5}, {"precision": 0.5}])
def test_all_that_decides_is_measured_on_the_held_out_pairs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, threshold: object
) -> None:
    asked: list[Pairs] = []

    def noting(jury: Jury, held_out: Pairs, seed: int, beat: Heartbeat) -> Measured:
        asked.append(held_out)
        return measure(jury, held_out, seed, beat=beat)

    monkeypatch.setattr(bootstrap, "measure", noting)
    how = CapFilt.model_validate(settings.capfilt.model_dump() | {"threshold": threshold})
    figures = run_stage("capfilt", settings.model_copy(update={"capfilt": how}))
    assert len(asked) == 1
    models = Models(Path("models/captioner"), (Path("models/filter"),))
    embed_pool(Pairs(Path("data/datasets/web")), models, 64, Path("near.safetensors"))
    jury = jury_of(models, how, Pairs(Path("data/datasets/human")), Path("near.safetensors"))
    assert len(jury.views) == 2 and jury.asked and jury.judges[0].neighbours
    found = measure(jury, Pairs(Path("data/datasets/validation")), settings.seed)
    assert figures["capfilt.validation_auc"] == found.roc_auc
    assert figures["capfilt.validation_accuracy"] == found.accuracy
    scores = from_json(json.loads(Path("metrics/capfilt.json").read_text()), "capfilt").measured
    digest = weights_digest(Path("models/filter"))
    told = scores["capfilt.validation_auc"]
    assert told.data != scores["capfilt.web_kept"].data
    assert not told.problem(digest, settings)
    other = settings.model_copy(update={"capfilt": how.model_copy(update={"views": (1.0,)})})
    assert "capfilt.views" in told.problem(digest, other)


def ended(*_: object) -> None:
    raise KeyboardInterrupt


def made_again(*_: object) -> None:
    pytest.fail("a dataset that was finished was made again")


def test_a_dataset_that_is_finished_is_not_made_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("blip.stages.capfilt.show", ended)
        with pytest.raises(KeyboardInterrupt):
            run_stage("capfilt", settings)
    assert not Path("data/datasets/bootstrapped").exists()
    monkeypatch.setattr("blip.stages.capfilt.write_bootstrapped", made_again)
    figures = run_stage("capfilt", settings)
    assert figures["capfilt.images"] == 12
    assert Path("data/datasets/bootstrapped/audit.parquet").is_file()
    assert not Path("data/datasets/.capfilt/bootstrapped").exists()


def test_nor_is_one_behind_whose_last_file_the_stage_was_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_and_ended(*arguments: Any) -> None:
        write_bootstrapped(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("blip.stages.capfilt.write_bootstrapped", made_and_ended)
        with pytest.raises(KeyboardInterrupt):
            run_stage("capfilt", settings)
    monkeypatch.setattr("blip.stages.capfilt.write_bootstrapped", made_again)
    assert run_stage("capfilt", settings)["capfilt.images"] == 12


def test_nor_is_one_that_dvc_removes_before_it_is_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "capfilt")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, name)
    with monkeypatch.context() as patched:
        patched.setattr("blip.stages.unsaved.Unsaved.keep", ended)
        with pytest.raises(KeyboardInterrupt):
            run_stage("capfilt", settings)
    written = files_of(Path("data/datasets/bootstrapped"))
    for output in ("data/datasets/bootstrapped", "reports/capfilt"):  # as DVC does before it starts a stage
        shutil.rmtree(output)
    monkeypatch.setattr("blip.stages.capfilt.write_bootstrapped", made_again)
    run_stage("capfilt", settings)
    assert files_of(Path("data/datasets/bootstrapped")) == written
    assert not Path("data/datasets/.capfilt/bootstrapped").exists()


def test_a_finished_dataset_of_other_settings_is_made_anew(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("blip.stages.capfilt.show", ended)
        with pytest.raises(KeyboardInterrupt):
            run_stage("capfilt", settings)
    other = settings.model_copy(update={"capfilt": settings.capfilt.model_copy(update={"threshold": 0.0})})
    assert run_stage("capfilt", other)["capfilt.web_kept"] == 1.0


def test_two_ranks_write_what_one_process_writes(settings: Settings) -> None:
    alone = run_stage("capfilt", settings)
    written = files_of(Path("data/datasets/bootstrapped"))
    shutil.rmtree("data/datasets/bootstrapped")

    capfilt = settings.capfilt.model_copy(update={"ranks": 2})
    shared = run_stage("capfilt", settings.model_copy(update={"capfilt": capfilt}))

    assert shared | {"seconds": 0} == alone | {"seconds": 0}
    assert files_of(Path("data/datasets/bootstrapped")) == written
    assert not list(Path("data/datasets/.capfilt").glob(".bootstrapped.ranks*"))


def test_what_stops_the_ranks_is_said(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    shard = Path("data/datasets/web/shards/00001.tar")
    shard.unlink()
    capfilt = settings.capfilt.model_copy(update={"ranks": 2})

    with pytest.raises(
        BlipError, match=r"the 2 ranks ended before all was done: .*rank \d .* ended with code 1"
    ):
        run_stage("capfilt", settings.model_copy(update={"capfilt": capfilt}))

    assert f"{shard.absolute()} cannot be read" in capfd.readouterr().err


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(f.relative_to(directory)): f.read_bytes() for f in directory.rglob("*") if f.is_file()}
