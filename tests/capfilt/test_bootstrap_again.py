"""CapFilt that is ended from outside or shared among workers: the same dataset, no shard done twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from distributed import LocalCluster

from blip.capfilt.bootstrap import Ranks, bootstrap
from blip.capfilt.inputs import Models, Order, Pairs
from blip.capfilt.shard import Tally
from blip.config import CapFilt
from blip.data import partial
from blip.data.jobs import HERE, open_pool
from blip.data.pairs import PairsDataset
from blip.errors import BlipError
from blip.lock import let_go
from tests.processes import running, wait_until_stopped

from .conftest import files_of, write

SETTINGS = CapFilt(
    min_tokens=3,
    max_tokens=10,
    batch_size=3,
    captions_per_image=2,
    head="both",
    neighbours=0.5,
    threshold=0.4,
)
SHARDS = 20

SCRIPT = """
import os, signal, sys
from pathlib import Path
from blip.capfilt import bootstrap as module
from blip.capfilt.inputs import Models, Order, Pairs
from blip.config import CapFilt

def once(job, beat, work=module.bootstrap_shard):
    if (job.directory / f"parts/{job.number:05d}.json").exists():
        Path(sys.argv[5]).write_text(f"shard {job.number} was done twice")
    if str(job.number) in sys.argv[8:]:
        os.kill(os.getpid(), signal.SIGSTOP)
    return work(job, beat)

module.bootstrap_shard = once
web, human, captioner, judge, _, target, settings = sys.argv[1:8]
models = Models(Path(captioner), (Path(judge),))
order = Order(Pairs(Path(web)), Pairs(Path(human)), models, CapFilt.model_validate_json(settings), 5)
module.bootstrap(order, Path(target))
"""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> PairsDataset:
    texts = [("red apple", "the dog", "green table", "DSC_0001.JPG")[n % 4] for n in range(4 * (SHARDS - 1))]
    return write(tmp_path_factory.mktemp("noisy") / "web", "web", texts, "web")


@pytest.fixture(scope="module")
def human(tmp_path_factory: pytest.TempPathFactory) -> PairsDataset:
    return write(
        tmp_path_factory.mktemp("good") / "human", "human", ["red apple", "the dog", "green"], "human"
    )


def run(web: PairsDataset, human: PairsDataset, target: Path, models: Models, pool=HERE) -> dict[str, bytes]:
    bootstrap(order_of(web, human, models), target, pool)
    return files_of(target)


@pytest.fixture(scope="module")
def undisturbed(web, human, models, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return run(web, human, tmp_path_factory.mktemp("undisturbed") / "out", models)


def test_the_run_keeps_some_texts_and_drops_some(undisturbed: dict[str, bytes]) -> None:
    assert {"manifest.json", "audit.parquet", "metadata.parquet"} <= set(undisturbed)
    assert 2 < sum(name.startswith("shards/") for name in undisturbed) <= SHARDS


def test_two_processes_write_what_one_writes(web, human, models, undisturbed, tmp_path: Path) -> None:
    with open_pool(workers=2) as pool:
        assert run(web, human, tmp_path / "out", models, pool) == undisturbed


def test_threads_that_make_pictures_for_a_gpu_change_nothing(
    web, human, models, undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Models, "decoders", 2)
    assert run(web, human, tmp_path / "out", models) == undisturbed


def test_two_dask_workers_write_what_one_process_writes(
    web, human, models, undisturbed, tmp_path: Path
) -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        open_pool(dask=cluster.scheduler_address) as pool,
    ):
        assert run(web, human, tmp_path / "out", models, pool) == undisturbed


def test_two_ranks_of_the_launcher_write_what_one_process_writes(
    web, human, models, undisturbed, tmp_path: Path
) -> None:
    command = [
        sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", "2", "--no_local_rank", "--module", "blip",
        "capfilt", web.path, tmp_path / "out", "--human", human.path, "--captioner", models.captioner,
        "--filter", models.filters[0], "--min-tokens", "3", "--max-tokens", "10", "--batch-size", "3", "--seed", "5",
        "--captions-per-image", "2", "--head", "both", "--neighbours", "0.5", "--threshold", "0.4", "--device", "cpu",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    subprocess.run([str(word) for word in command], check=True, cwd=Path.cwd(), env=environment)
    assert files_of(tmp_path / "out") == undisturbed


def order_of(web, human, models) -> Order:
    return Order(Pairs(web.path), Pairs(human.path), models, SETTINGS, 5)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank is taken for gone at once where nobody holds its lock."""
    monkeypatch.setattr(partial, "ABSENT_SECONDS", 0.0)
    monkeypatch.setattr(partial, "LOOK_SECONDS", 0.0)


def test_a_rank_that_is_gone_is_named_and_one_process_does_the_rest(
    web, human, models, undisturbed, tmp_path: Path, impatient
) -> None:
    with pytest.raises(BlipError, match=r"rank 1 of 2 is gone, and 10 of its shards are not finished"):
        bootstrap(order_of(web, human, models), tmp_path / "out", ranks=Ranks(0, 2))
    assert len(list((tmp_path / ".out.partial/parts").glob("*.json"))) == SHARDS // 2
    assert run(web, human, tmp_path / "out", models) == undisturbed


def test_a_rank_does_not_wait_for_a_first_one_that_is_gone(
    web, human, models, tmp_path: Path, impatient
) -> None:
    order = order_of(web, human, models)
    partial.begin(tmp_path / "out", order.identity(), 2)
    let_go(tmp_path / ".out.partial.lock")
    with pytest.raises(BlipError, match="the first rank is gone and has left no thresholds"):
        bootstrap(order, tmp_path / "out", ranks=Ranks(1, 2))
    let_go(tmp_path / ".out.partial.1.lock")


def test_a_rank_that_comes_when_all_is_finished_ends_well(
    web, human, models, undisturbed, tmp_path: Path
) -> None:
    run(web, human, tmp_path / "out", models)
    assert bootstrap(order_of(web, human, models), tmp_path / "out", ranks=Ranks(1, 2)) == Tally()
    assert partial.join(tmp_path / "out", {}, 1, 2) is None
    assert files_of(tmp_path / "out") == undisturbed and not (tmp_path / ".out.partial").exists()


def command_of(web, human, models, folder: Path, *stops: int) -> list[str]:
    """A process that bootstraps to FOLDER/out, and stops itself before some shards."""
    places = (web.path, human.path, models.captioner, models.filters[0], folder / "twice", folder / "out")
    return [sys.executable, "-c", SCRIPT, *map(str, places), SETTINGS.model_dump_json(), *map(str, stops)]


def test_a_second_job_on_the_target_is_refused_in_one_line(web, human, models, undisturbed, tmp_path) -> None:
    command = command_of(web, human, models, tmp_path, 1)
    same = [
        sys.executable, "-m", "blip", "capfilt", web.path, tmp_path / "out", "--captioner", models.captioner,
        "--filter", models.filters[0], "--min-tokens", "3", "--max-tokens", "10", "--device", "cpu",
    ]  # fmt: skip
    with running(command, cwd=Path.cwd(), stdout=subprocess.DEVNULL) as first:
        wait_until_stopped(first)
        second = subprocess.run(
            list(map(str, same)), capture_output=True, text=True, check=False, cwd=Path.cwd()
        )
        first.send_signal(signal.SIGCONT)
        assert first.wait(300) == 0
    assert second.returncode == 1
    (line,) = [line for line in second.stderr.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: {tmp_path / 'out'}: another process (pid {first.pid} on ")
    assert "Traceback" not in second.stderr
    assert files_of(tmp_path / "out") == undisturbed


def test_kill_9_at_ten_moments_changes_nothing(web, human, models, undisturbed, tmp_path: Path) -> None:
    """Each somewhere in a shard; a life that gets to the end of it before it is killed stops there."""
    moments = random.Random(11)
    for shard in range(0, SHARDS, 2):
        command = command_of(web, human, models, tmp_path, shard, shard + 1)
        with running(command, cwd=Path.cwd(), stdout=subprocess.DEVNULL) as process:
            wait_until_stopped(process)
            process.send_signal(signal.SIGCONT)
            time.sleep(moments.uniform(0, 0.1))
        assert process.returncode == -signal.SIGKILL
    command = command_of(web, human, models, tmp_path)
    subprocess.run(command, check=True, cwd=Path.cwd(), stdout=subprocess.DEVNULL)
    assert files_of(tmp_path / "out") == undisturbed
    assert not (tmp_path / "twice").exists()
