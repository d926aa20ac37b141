"""A store as a source of params.yaml: what the doctor says of it, and the stage."""

from pathlib import Path

import pytest
import yaml

from blip.config import load_settings
from blip.data.pairs import PairsDataset
from blip.doctor.finding import found
from blip.doctor.sources import sources
from blip.errors import BlipError
from blip.inspection.verification import verify
from blip.stages import ingest

from .conftest import PER_SHARD, SHARDS, Server

DATASETS = Path("data/datasets")


@pytest.fixture
def project(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A project whose only dataset is the server's."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    source = {"source": server.url, "kind": "webdataset", "origin": "web", "role": "train"}
    values["ingest"]["datasets"] = {"web": source}
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(values))
    return server


def run(**changes: object) -> dict[str, float]:
    settings = load_settings(overrides={f"ingest.{name}": value for name, value in changes.items()})
    return ingest.run(settings, None, None)  # pyright: ignore[reportArgumentType] - the run is not asked


def test_the_doctor_lists_it(project: Server) -> None:
    assert sources().state == "good" and f"{project.url} has {SHARDS} shard(s)" in sources().text
    assert not project.fetched
    for path in project.folder.glob("*.tar"):
        path.unlink()
    [gone] = found([sources])
    assert gone.state == "bad" and f"{project.url}: there is no .tar in it" in gone.text


def test_the_stage_reads_it_once_and_again_when_an_object_changes(
    project: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run()["ingest.web.samples"] == SHARDS * PER_SHARD
    assert set(project.fetched.values()) == {1}
    project.seen.clear()
    run()
    assert project.fetched == {} and "kept as it was" in capsys.readouterr().out
    (project.folder / "00005.tar").unlink()
    run()
    assert set(project.fetched.values()) == {1}
    assert len(PairsDataset.open(DATASETS / "web")) == (SHARDS - 1) * PER_SHARD


def test_the_stage_begins_nothing_where_a_store_does_not_answer(project: Server) -> None:
    project.answers = {"": 503}
    with pytest.raises(BlipError, match="it cannot be listed: the server answers 503"):
        run()
    assert not DATASETS.exists()


def test_the_stage_asks_again_for_a_shard_that_did_not_come_if_it_is_told_to(project: Server) -> None:
    patience = {"retries": 0, "backoff_seconds": 0.01}
    project.answers = {"00002.tar": 500}
    assert run(max_bad_fraction=0.5, download=patience)["ingest.web.quarantined"] == 1
    project.answers.clear()
    project.seen.clear()
    assert run(max_bad_fraction=0.5, download=patience)["ingest.web.quarantined"] == 1
    assert project.fetched == {}
    for _ in range(2):  # the second time there is nothing to ask for
        assert run(max_bad_fraction=0.5, download=patience | {"again": True})["ingest.web.quarantined"] == 0
        assert len(project.fetched) == SHARDS and set(project.fetched.values()) == {1}
    assert len(PairsDataset.open(DATASETS / "web")) == SHARDS * PER_SHARD
    assert verify(PairsDataset.open(DATASETS / "web")) == []
