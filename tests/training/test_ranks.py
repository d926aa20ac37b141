"""Two ranks train one model; what happens to one of them ends or stops both, and is said."""

import csv
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from blip.config import Launch
from blip.errors import BlipError, Preempted
from blip.training.launch import spawn
from tests.training.tiny_run import write_dataset

ROOT = Path(__file__).parents[2]
STEPS = 8
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("DS_ACCELERATOR", "cpu")
        patch.setenv("TORCHDYNAMO_DISABLE", "1")
        yield


def run(folder: Path, fault: str = "", **launch: float) -> None:
    """Train two ranks in `folder`; at its end no process of it may be left."""
    arguments = ["tests.training.drill_run", str(folder), str(STEPS), "2", *([fault] if fault else [])]
    before = set(psutil.Process().children(recursive=True))  # servers of other tests
    try:
        spawn("tiny", 2, arguments, folder / "final.json", 1, Launch.model_validate(launch))
    finally:
        assert left_beside(before) == []


def left_beside(before: set[psutil.Process]) -> list[str]:
    """Other descendants of this process: ranks and their workers. They have a moment, for the kernel has too."""
    deadline = time.monotonic() + 5
    while (left := set(psutil.Process().children(recursive=True)) - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [" ".join(process.cmdline()) for process in left]


def steps_of(folder: Path) -> list[str]:
    with (folder / "metrics/curves/tiny.csv").open() as handle:
        return [row["step"] for row in csv.DictReader(handle)]


def result(folder: Path) -> float:
    return json.loads((folder / "final.json").read_text())["sum"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> float:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_dataset(folder / "data")
    run(folder)
    assert steps_of(folder) == [str(step) for step in range(1, STEPS + 1)]
    return result(folder)


def test_a_signal_to_one_rank_has_both_save_the_same_step(tmp_path: Path, undisturbed: float) -> None:
    write_dataset(tmp_path / "data")
    with pytest.raises(Preempted, match="the ranks were stopped"):
        run(tmp_path, "1:5:term")
    saved = sorted(path.parent.name for path in tmp_path.glob("runs/tiny/step-*/complete"))
    assert saved[-1] == "step-000005"
    run(tmp_path)
    assert steps_of(tmp_path) == [str(step) for step in range(1, STEPS + 1)]
    assert result(tmp_path) == undisturbed


def test_a_rank_that_is_killed_ends_the_run_and_is_named(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    with pytest.raises(
        BlipError, match=r"the 2 ranks ended .* rank 1 \(.*\) was ended by SIGKILL, in step 5"
    ):
        run(tmp_path, "1:5:kill")
    assert time.time() - (tmp_path / "fault").stat().st_mtime < 60
    assert not (tmp_path / "final.json").exists()
    assert os.environ.get("RANK") is None


def test_a_rank_that_hangs_is_found_and_named_with_its_stacks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "data")
    with pytest.raises(BlipError, match=r": rank 1 \(.*\) stopped .* no sign for \d+ s, the last in step 4"):
        run(tmp_path, "1:4:stop", hang_timeout=15.0, start_timeout=120.0)
    assert time.time() - (tmp_path / "fault").stat().st_mtime < 60
    assert 'drill_run.py", line' in capfd.readouterr().err
