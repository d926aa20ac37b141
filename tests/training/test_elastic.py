"""A run goes on with another number of ranks, as if it had had it from the start."""

from pathlib import Path
from typing import Any

import pytest

from tests.training.ranks import Ranks, finish
from tests.training.tiny_run import write_dataset

STEPS, LANES, STEP_SAMPLES = 9, 6, 12
GLOBAL = {"itc_keys": "global", "itm_negatives": "global", "lm_mean": "global"}


def changes(ranks: int) -> dict[str, Any]:
    training = {
        "lanes": LANES,
        "batch_size": STEP_SAMPLES // ranks,
        "checkpoint_every": 3,
        "keep_checkpoints": 9,
    }
    return {"training": training, "objective": GLOBAL, "optimiser": {"name": "adamw"}}


def started(folder: Path) -> Path:
    folder.mkdir()
    write_dataset(folder / "data", samples=60)
    return folder


def losses(folder: Path, ranks: int) -> list[list[float]]:
    """ITC, ITM, LM and their sum of every step so far: means over the ranks."""
    files = [(folder / f"losses{rank}.txt").read_text().splitlines() for rank in range(ranks)]
    rows = [[[float(value) for value in row.split()] for row in step] for step in zip(*files, strict=True)]
    return [[sum(values) / ranks for values in zip(*step, strict=True)] for step in rows]


def keys(folder: Path) -> dict[tuple[int, int], list[str]]:
    """Of every batch of all ranks laid end to end, by epoch and number."""
    found: dict[tuple[int, int], list[str]] = {}
    for path in sorted(folder.glob("keys*.txt")):
        for epoch, number, *names in map(str.split, path.read_text().splitlines()):
            found.setdefault((int(epoch), int(number)), []).extend(names)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = started(tmp_path_factory.mktemp("elastic") / "1")
    finish(folder, STEPS, 1, changes(1))
    return folder


@pytest.mark.slow
def test_the_losses_are_those_of_one_rank(undisturbed: Path, tmp_path: Path) -> None:
    folder, ranks = started(tmp_path / "run"), 3
    finish(folder, STEPS, ranks, changes(ranks))
    assert keys(folder) == keys(undisturbed)
    for found, expected in zip(losses(folder, ranks), losses(undisturbed, 1), strict=True):
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_two_ranks_then_one_then_three_have_the_losses_and_samples_of_an_undisturbed_run(
    undisturbed: Path, tmp_path: Path
) -> None:
    folder, lives = started(tmp_path / "run"), []
    for ranks, kill_at in ((2, 4), (1, 7), (3, 0)):
        life = Ranks(folder, STEPS, ranks, changes(ranks), kill_at)
        assert (life.wait() != 0) == bool(kill_at), life.log()
        lives.append(losses(folder, ranks))
        for path in folder.glob("losses*.txt"):
            path.unlink()
    assert "resuming at step 3" in (log := (folder / "rank0.log").read_text()) and "resuming at step 6" in log
    expected = losses(undisturbed, 1)
    for start, found in zip((0, 3, 6), lives, strict=True):
        for step, row in enumerate(found, start):
            assert row == pytest.approx(expected[step], abs=1e-3), f"step {step + 1}"
    assert len(lives[2]) == 3
