"""A picture that cannot be read is written down, and a run that meets it ends as well, and alike, when it is killed."""

import json
import signal
from pathlib import Path

import pytest

from blip.data.pairs import PairsDataset
from tests.training.ranks import Ranks, finish
from tests.training.tiny_run import write_dataset

pytestmark = pytest.mark.slow
STEPS = 8


def spoilt(folder: Path) -> Path:
    """A folder with the data of a run, of which sample s013 cannot be read."""
    folder.mkdir()
    write_dataset(folder / "data")
    path = folder / "data" / PairsDataset.open(folder / "data").manifest.shards[1].url
    data = bytearray(path.read_bytes())
    start = data.index(b"s013.png") + 512 + 100
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    return folder


def test_a_run_goes_on_and_is_resumed_exactly(tmp_path: Path) -> None:
    whole = finish(spoilt(tmp_path / "whole"), STEPS)
    folder = spoilt(tmp_path / "killed")
    assert Ranks(folder, STEPS, kill_at=5).wait() == -signal.SIGKILL
    assert finish(folder, STEPS) == whole
    rows = [json.loads(line) for line in (folder / "runs/tiny/unreadable-0.jsonl").read_text().splitlines()]
    assert {(row["shard"], row["key"]) for row in rows} == {("data/shards/00001.tar", "s013")}
    assert all(row["reason"].startswith("corrupt: PNG") for row in rows)
    assert (
        "tiny  warning: shard data/shards/00001.tar, sample s013: corrupt"
        in (folder / "rank0.log").read_text()
    )
