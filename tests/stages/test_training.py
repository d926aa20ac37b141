"""What a training stage hands to the ranks that it starts."""

from pathlib import Path

import pytest

from blip.config import load_settings
from blip.stages.training import Job, read_job, threads_of, write_job
from blip.training.launch.place import Place
from tests.stages.conftest import ROOT


@pytest.mark.parametrize("start", [None, Path("models/rounds/2/pretrained")])
def test_a_rank_reads_the_job_that_was_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Path | None
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {"filter.data": {"human": 2.0}, "filter.training.ranks": 2, "capfilt.threshold": {"keep": 0.4}}
    settings = load_settings(ROOT / "params.yaml", overrides=changes)
    job = Job(
        "rounds.3.filter",
        settings.filter.of_member,
        "pairs",
        start,
        Path("models/filter"),
        "rounds.3.filter.",
    )
    write_job(job, settings)
    assert read_job("rounds.3.filter") == (job, settings)


@pytest.mark.parametrize(
    ("place", "threads"),
    [
        (None, 3),
        (Place(nodes=4), 12),
        (Place(nodes=5, given=(16, 8, 4, 4, 4)), 6),
        (Place(nodes=32, shared=8), 12),
    ],
)
def test_the_ranks_of_a_machine_share_the_threads_of_a_stage(place: Place | None, threads: int) -> None:
    changes = {"compute.threads": 96, "pretrain.training": {"ranks": 32, "threads": None}}
    settings = load_settings(ROOT / "params.yaml", overrides=changes)
    assert threads_of(settings.pretrain, settings, place) == threads
    own = load_settings(ROOT / "params.yaml", overrides={"pretrain.training": {"ranks": 32, "threads": 5}})
    assert threads_of(own.pretrain, own, place) == 5
