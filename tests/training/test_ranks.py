"""Two ranks through the launcher train one model, and a rank that dies is a failure."""

import csv
import json
import os
from pathlib import Path

import pytest

from blip.errors import BlipError
from blip.training.launch import spawn
from tests.training.tiny_run import write_dataset

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def run(folder: Path, kill_at: int = 0) -> None:
    arguments = ["tests.training.tiny_run", str(folder), "4", str(kill_at), "2"]
    spawn("tiny", 2, arguments, folder / "final.json", threads=1)


@pytest.mark.slow
def test_two_ranks_train_and_finish(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    run(tmp_path)
    assert json.loads((tmp_path / "final.json").read_text())["sum"] > 0
    with (tmp_path / "metrics/curves/tiny.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]


@pytest.mark.slow
def test_a_rank_that_dies_is_reported_even_if_the_launcher_exits_0(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    with pytest.raises(BlipError, match="2 ranks ended"):
        run(tmp_path, kill_at=2)
    assert not (tmp_path / "final.json").exists()
    assert os.environ.get("RANK") is None
