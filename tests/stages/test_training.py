"""What a training stage hands to the ranks that it starts."""

from pathlib import Path

import pytest

from blip.config import load_settings
from blip.stages.training import Job, read_job, write_job
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
