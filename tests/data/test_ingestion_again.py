"""Ingestion that is ended from outside, spread over processes, or short of disk: nothing lost, nothing half."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from distributed import LocalCluster

from blip.config import Ingest, Source
from blip.data.ingestion import ingest_dataset
from blip.data.jobs import open_pool
from blip.data.pairs import PairsDataset

from .conftest import draw, encoded

SETTINGS = Ingest(samples_per_shard=5, max_bad_fraction=0.2, datasets={})
SHARDS = 12

SLOWLY = """
import sys, time
from pathlib import Path
from blip.config import Ingest, Source
from blip.data import ingestion

def slowly(job, write=ingestion.write_shard):
    time.sleep(0.1)
    return write(job)

ingestion.write_shard = slowly
source = Source(source=sys.argv[1], kind="folder", origin="web", role="train")
ingestion.ingest_dataset(source, Path(sys.argv[2]), Ingest(samples_per_shard=5, max_bad_fraction=0.2, datasets={}))
"""


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A folder of 60 pictures, two of them broken."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(5 * SHARDS):
        data = b"<html>" if number in (7, 31) else encoded(draw(number))
        (folder / f"picture {chr(97 + number % 26)} {number:03d}.png").write_bytes(data)
    return Source(source=str(folder), kind="folder", origin="web", role="train")


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(f.relative_to(directory)): f.read_bytes() for f in directory.rglob("*") if f.is_file()}


def test_two_processes_write_what_one_writes(source: Source, tmp_path: Path) -> None:
    one = ingest_dataset(source, tmp_path / "one", SETTINGS)
    with open_pool(workers=2) as pool:
        two = ingest_dataset(source, tmp_path / "two", SETTINGS, pool=pool)
    assert len(one) == 58 and one.manifest.quarantined == {"not_an_image": 2}
    assert files_of(two.path) == files_of(one.path)


def test_two_dask_workers_write_what_one_process_writes(source: Source, tmp_path: Path) -> None:
    one = ingest_dataset(source, tmp_path / "one", SETTINGS)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        open_pool(dask=cluster.scheduler_address) as pool,
    ):
        two = ingest_dataset(source, tmp_path / "two", SETTINGS, pool=pool)
    assert files_of(two.path) == files_of(one.path)


def test_kill_9_and_again_repeats_no_finished_shard(source: Source, tmp_path: Path) -> None:
    undisturbed = ingest_dataset(source, tmp_path / "undisturbed", SETTINGS)
    target, partial = tmp_path / "out", tmp_path / ".out.partial"
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, source.source, str(target)], cwd=Path.cwd())
    while len(list((partial / "parts").glob("*.json"))) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    done = [path.stem for path in (partial / "parts").glob("*.json")]
    before = {name: (partial / f"shards/{name}.tar").stat().st_ino for name in done}
    again = ingest_dataset(source, target, SETTINGS)
    assert 4 <= len(done) < SHARDS
    assert {name: (target / f"shards/{name}.tar").stat().st_ino for name in done} == before
    assert files_of(again.path) == files_of(undisturbed.path)
    assert not partial.exists()


def test_a_source_that_changed_meanwhile_is_read_anew(source: Source, tmp_path: Path) -> None:
    partial = tmp_path / ".out.partial"
    (partial / "parts").mkdir(parents=True)
    (partial / "plan.json").write_text("{}")
    (partial / "parts/00000.json").write_text('{"shard": null, "quarantined": {"invented": 5}}')
    assert ingest_dataset(source, tmp_path / "out", SETTINGS).manifest.quarantined == {"not_an_image": 2}


FULL = """
mount -t tmpfs -o size=100k tmpfs "$0" &&
exec "$1" -m blip ingest "$2" --out "$0/out" --workers 1 --max-bad-fraction 0.2
"""


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0,
    reason="no mount namespaces here",
)
def test_a_full_disk_is_said_and_nothing_opens(source: Source, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    command = ["unshare", "-rm", "bash", "-c", FULL, str(tmp_path / "small"), sys.executable, source.source]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ, cwd=Path.cwd()
    )
    assert ended.returncode == 1
    assert "no space left" in ended.stderr.lower()
    assert "Traceback" not in ended.stderr


def test_the_dataset_is_sound(source: Source, tmp_path: Path) -> None:
    dataset = ingest_dataset(source, tmp_path / "out", SETTINGS)
    assert PairsDataset.open(dataset.path).verify() == []
