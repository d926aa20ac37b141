"""Ingestion that is ended from outside, spread over processes, or short of disk: nothing lost, nothing half."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from blip import rereading
from blip.atomic import flush
from blip.config import Ingest, Source
from blip.data.jobs import open_pool
from blip.data.pairs import PairsDataset
from blip.errors import BlipError
from blip.ingest.ingestion import ingest_dataset
from blip.inspection.verification import verify
from tests.data.conftest import draw, encoded
from tests.processes import running, wait_until_stopped

SETTINGS = Ingest(samples_per_shard=5, max_bad_fraction=0.2, datasets={})
STRICT = SETTINGS.model_copy(update={"max_bad_fraction": 0.02})
SHARDS = 12

SLOWLY = """
import os, signal, sys, time
from pathlib import Path
from blip.config import Ingest, Source
from blip.ingest import ingestion

def slowly(job, write=ingestion.write_shard):
    time.sleep(0.1)
    if str(job.number) in sys.argv[3:]:
        os.kill(os.getpid(), signal.SIGSTOP)
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


def made_at(directory: Path) -> dict[str, int]:
    """When each shard was last written."""
    return {path.name: path.stat().st_mtime_ns for path in (directory / "shards").iterdir()}


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
    with running([sys.executable, "-c", SLOWLY, source.source, str(target), "4"], cwd=Path.cwd()) as process:
        wait_until_stopped(process)
    assert not target.exists()
    done = [path.stem for path in (partial / "parts").glob("*.json")]
    before = {name: (partial / f"shards/{name}.tar").stat().st_ino for name in done}
    again = ingest_dataset(source, target, SETTINGS)
    assert len(done) == 4
    assert {name: (target / f"shards/{name}.tar").stat().st_ino for name in done} == before
    assert files_of(again.path) == files_of(undisturbed.path)
    assert not partial.exists()


def test_a_source_that_changed_meanwhile_is_read_anew(source: Source, tmp_path: Path) -> None:
    partial = tmp_path / ".out.partial"
    (partial / "parts").mkdir(parents=True)
    (partial / "plan.json").write_text("{}")
    (partial / "parts/00000.json").write_text('{"shard": null, "quarantined": {"invented": 5}}')
    assert ingest_dataset(source, tmp_path / "out", SETTINGS).manifest.quarantined == {"not_an_image": 2}


def refused_at_first(source: Source, target: Path) -> dict[str, int]:
    """Settings with which a run stops at the two broken pictures, and what it left."""
    with pytest.raises(BlipError, match="2 of 60 samples cannot be used"):
        ingest_dataset(source, target, STRICT)
    return made_at(target.with_name(f".{target.name}.partial"))


def test_pictures_that_were_repaired_are_read_again_and_no_other(source: Source, tmp_path: Path) -> None:
    before, pictures = refused_at_first(source, tmp_path / "out"), Path(source.source)
    broken = [path for path in pictures.iterdir() if path.read_bytes() == b"<html>"]
    for number, path in enumerate(broken):
        path.write_bytes(encoded(draw(1000 + number)))
    again = ingest_dataset(source, tmp_path / "out", STRICT)
    after = made_at(again.path)
    assert sum(after[name] != when for name, when in before.items()) == len(broken) == 2
    assert (len(again), again.manifest.quarantined, verify(again)) == (60, {}, [])
    assert files_of(again.path) == files_of(ingest_dataset(source, tmp_path / "anew", STRICT).path)


def test_a_source_that_became_shorter_leaves_no_old_shard(source: Source, tmp_path: Path) -> None:
    refused_at_first(source, tmp_path / "out")
    pictures = Path(source.source)
    last = sorted(path for path in pictures.iterdir() if path.read_bytes() != b"<html>")[-12:]
    for path in [*last, *(path for path in pictures.iterdir() if path.read_bytes() == b"<html>")]:
        path.unlink()
    again = ingest_dataset(source, tmp_path / "out", STRICT)
    assert (len(again), len(again.manifest.shards), verify(again)) == (46, 10, [])
    assert files_of(again.path) == files_of(ingest_dataset(source, tmp_path / "anew", STRICT).path)


def test_a_kill_before_the_last_rename_loses_no_shard(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, *on_file: Any) -> None:
        if path.is_dir():
            raise KeyboardInterrupt
        flush(path, *on_file)

    with monkeypatch.context() as patched:
        patched.setattr("blip.atomic.flush", killed)
        patched.setattr("blip.data.partial.flush", killed, raising=False)
        with pytest.raises(KeyboardInterrupt):
            ingest_dataset(source, tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()
    before = made_at(tmp_path / ".out.partial")
    again = ingest_dataset(source, tmp_path / "out", SETTINGS)
    assert made_at(again.path) == before and len(before) == SHARDS
    assert files_of(again.path) == files_of(ingest_dataset(source, tmp_path / "anew", SETTINGS).path)
    assert not (tmp_path / ".out.partial").exists()


@pytest.mark.parametrize("at", ["parts", "plan.json"])
def test_a_kill_among_the_last_renames_loses_no_shard(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.name == at:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest_dataset(source, tmp_path / "out", SETTINGS)
    check_that_all_is_found_again(source, tmp_path)


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), KeyboardInterrupt()], ids=["error", "kill"]
)
def test_a_last_rename_that_does_not_come_about_loses_no_shard(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    replace = Path.replace

    def fails(self: Path, target: Path) -> Path:
        if self.name == ".out.partial":
            raise error
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fails)
        with pytest.raises(type(error)):
            ingest_dataset(source, tmp_path / "out", SETTINGS)
    check_that_all_is_found_again(source, tmp_path)


def check_that_all_is_found_again(source: Source, folder: Path) -> None:
    """The next run makes no shard anew, and all else is as if there had been no other."""
    before = made_at(folder / ".out.partial")
    again = ingest_dataset(source, folder / "out", SETTINGS)
    assert made_at(again.path) == before and len(before) == SHARDS
    assert files_of(again.path) == files_of(ingest_dataset(source, folder / "anew", SETTINGS).path)
    assert sorted(path.name for path in folder.iterdir()) == ["anew", "out", "source"]


@pytest.mark.parametrize("look", ["read_bytes", "is_file"])
def test_a_share_that_is_away_for_a_moment_costs_no_picture(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """A picture that a table names is looked for, too; after tries enough the run ends and goes on later."""
    files = sorted(path.name for path in Path(source.source).iterdir())
    captions = "".join(f"{name},a picture\n" for name in files)
    (tmp_path / "source/captions.csv").write_text(f"image,caption\n{captions}")
    table = source.model_copy(update={"kind": "table"})
    undisturbed = ingest_dataset(table, tmp_path / "undisturbed", SETTINGS)
    left, now = {files[3]: 2, files[40]: 99}, getattr(Path, look)

    def stale(self: Path) -> object:
        if left.get(self.name):
            left[self.name] -= 1
            raise OSError(errno.ESTALE, "Stale file handle", str(self))
        return now(self)

    monkeypatch.setattr(rereading, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(Path, look, stale)
    with pytest.raises(BlipError, match=rf"{files[40]} cannot be read: Stale file handle"):
        ingest_dataset(table, tmp_path / "out", SETTINGS)
    left.clear()
    made = ingest_dataset(table, tmp_path / "out", SETTINGS)
    assert files_of(made.path) == files_of(undisturbed.path)


def test_a_target_that_is_a_link_to_another_disk_is_made_there(source: Source, tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system here")
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        (tmp_path / "out").symlink_to(Path(elsewhere, "big"))
        for _ in range(2):  # there is nothing yet, and there is one
            assert len(ingest_dataset(source, tmp_path / "out", SETTINGS)) == 58
            assert (tmp_path / "out").is_symlink()
            assert [path.name for path in Path(elsewhere).iterdir()] == ["big"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


@pytest.mark.parametrize("per_shard", ["5", "6"], ids=["alike", "of another plan"])
def test_a_second_process_is_refused_and_the_first_makes_it_whole(
    source: Source, tmp_path: Path, per_shard: str
) -> None:
    target = tmp_path / "out"
    command = [
        sys.executable, "-m", "blip", "ingest", source.source, "--out", str(target), "--workers", "1",
        "--origin", "web", "--samples-per-shard", per_shard, "--max-bad-fraction", "0.2",
    ]  # fmt: skip
    with running([sys.executable, "-c", SLOWLY, source.source, str(target), "1"], cwd=Path.cwd()) as first:
        wait_until_stopped(first)
        second = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())
        first.send_signal(signal.SIGCONT)
        assert first.wait(120) == 0
    assert second.returncode == 1
    holder = f"another process (pid {first.pid} on {socket.gethostname()}) makes this dataset"
    assert second.stderr.splitlines()[-1].startswith(f"error: {target}: {holder}")
    assert "Traceback" not in second.stderr
    undisturbed = ingest_dataset(source, tmp_path / "undisturbed", SETTINGS)
    assert files_of(target) == files_of(undisturbed.path)


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
    assert verify(PairsDataset.open(dataset.path)) == []
