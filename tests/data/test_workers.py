"""Loading in processes of its own: the same batches bit for bit, no process left behind, a message for each failure."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import psutil
import pytest

from blip.data.loader import Batch, PairLoader
from blip.data.pairs import PairsDataset
from blip.errors import BlipError

from .test_loader import keys, loader_of, same

Make = Callable[..., PairsDataset]
ROOT = Path(__file__).parents[2]
UNEVEN = {"batch_size": 3, "randaugment": True}


@pytest.fixture
def uneven(make_dataset: Make) -> tuple[PairsDataset, PairsDataset]:
    """Two datasets with shards of 4, 4, ... 1 and 2, 2, ... 1 samples, 12 shards in all."""
    return make_dataset("one", 17, 4), make_dataset("two", 13, 2, first=100)


def taken(loader: PairLoader, count: int) -> list[Batch]:
    batches = iter(loader)
    try:
        return list(islice(batches, count))
    finally:
        batches.close()  # pyright: ignore[reportAttributeAccessIssue]


def children() -> set[int]:
    family = psutil.Process().children(recursive=True)
    return {child.pid for child in family if "blip.data.worker" in " ".join(child.cmdline())}


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(
    "workers", [1, 2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_an_epoch_is_the_same_bit_for_bit_whoever_decodes(
    uneven: tuple[PairsDataset, PairsDataset], world: int, workers: int
) -> None:
    seen: Counter[str] = Counter()
    batches = 30 // (3 * world)
    for rank in range(world):
        options = {**UNEVEN, "rank": rank, "world": world}
        expected = taken(loader_of(*uneven, **options), batches + 2)
        found = taken(loader_of(*uneven, **options, workers=workers), batches + 2)
        assert len(found) == batches + 2
        assert all(same(one, other) for one, other in zip(expected, found, strict=True))
        assert [batch.index for batch in found] == [*range(batches), 0, 1]
        seen.update(keys(found[:batches]))
    assert set(seen.values()) == {1}
    assert len(seen) == batches * 3 * world


@pytest.mark.parametrize(("before", "after"), [(2, 2), (0, 2), (2, 0)])
def test_a_run_goes_on_bit_for_bit_with_any_number_of_workers(
    uneven: tuple[PairsDataset, PairsDataset], before: int, after: int
) -> None:
    options = {**UNEVEN, "weights": (2.0, 0.4)}
    whole = loader_of(*uneven, **options, workers=before)
    expected = taken(whole, 7)[4:]
    stopped = loader_of(*uneven, **options, workers=before)
    taken(stopped, 4)
    state = json.loads(json.dumps(stopped.state_dict()))
    resumed = loader_of(*uneven, **options, workers=after)
    resumed.load_state_dict(state)
    assert all(same(one, other) for one, other in zip(expected, taken(resumed, 3), strict=True))


def test_fewer_shards_than_workers_are_refused_before_training(make_dataset: Make) -> None:
    dataset = make_dataset(count=8, per_shard=4)
    with pytest.raises(BlipError, match=r"2 shards are fewer than 1 ranks x 3 workers; .*training\.workers"):
        loader_of(dataset, workers=3, batch_size=1)


def test_a_truncated_shard_stops_with_its_name(make_dataset: Make) -> None:
    dataset = make_dataset(count=12)
    path = dataset.path / dataset.manifest.shards[1].url
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BlipError, match=r"00001\.tar: 3000 bytes"):
        taken(loader_of(dataset, workers=2), 3)


def test_a_worker_that_is_killed_stops_the_run_with_a_way_out(make_dataset: Make) -> None:
    before = children()
    batches = iter(loader_of(make_dataset(count=40), workers=2))
    next(batches)
    victim = next(iter(children() - before))
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(BlipError, match=r"ended by SIGKILL.*lower training\.workers"):
        for _ in range(20):
            next(batches)
    wait_until(lambda: children() == before)


def test_a_signal_to_the_whole_group_leaves_the_end_to_the_parent(make_dataset: Make) -> None:
    dataset, before = make_dataset(count=40), children()
    expected = taken(loader_of(dataset), 12)
    batches = iter(loader_of(dataset, workers=2))
    found = [next(batches)]
    for worker in children() - before:
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGINT)
    found += list(islice(batches, 11))
    assert all(same(one, other) for one, other in zip(expected, found, strict=True))


def test_a_loader_that_is_let_go_of_leaves_no_process(make_dataset: Make) -> None:
    before = children()
    batches: Iterator[Batch] | None = iter(loader_of(make_dataset(count=40), workers=2))
    next(batches)
    assert len(children() - before) == 2
    del batches
    wait_until(lambda: children() == before)


TRAINING = """
import sys
from blip.data.loader import PairLoader
from blip.data.pairs import PairsDataset

if __name__ == "__main__":
    source = PairsDataset.open(sys.argv[1]), frozenset()
    batches = iter(PairLoader([source], batch_size=2, image_size=16, seed=0, workers=2))
    next(batches)
    print("running", flush=True)
    for batch in batches:
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_parent_that_is_killed_leaves_no_worker(
    make_dataset: Make, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "training.py").write_text(TRAINING)
    dataset = make_dataset(count=40)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "training.py"), str(dataset.path)]
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "running\n"
    family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) >= 2
    parent.send_signal(number)
    assert parent.wait(20) == -number
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, [process.cmdline() for process in alive]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
