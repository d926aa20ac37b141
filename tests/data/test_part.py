"""The parts of a dataset: in the order of their numbers, and nothing of one that was given up stays."""

import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.data import archive
from blip.data import part as module
from blip.data.archive import Member, read_members
from blip.data.metadata import METADATA
from blip.data.pairs import Caption, PairsDataset, Sample
from blip.data.part import PartWriter, assemble, finished, forget
from blip.data.quarantine import read_quarantine
from blip.inspection.verification import verify

BEYOND_FIVE_DIGITS = [100_000, 9_999, 10_001, 10_000]


def sample(key: str) -> Sample:
    return Sample(key, b"no picture is opened", "png", (Caption("red apple", "web"),), width=2, height=2)


def write(directory: Path, number: int, refuse: bool = False) -> None:
    with PartWriter(directory, number) as part:
        part.add(sample(f"key-{number}"), phash=1)
        if refuse:
            part.quarantine(f"bad-{number}", "truncated", "ends early", b"bytes")


def test_more_than_five_digits_of_parts_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in BEYOND_FIVE_DIGITS:
        write(tmp_path, number, refuse=True)
    assert list(finished(tmp_path)) == sorted(BEYOND_FIVE_DIGITS)
    manifest = assemble(tmp_path, [], {})
    ordered = [f"key-{number}" for number in sorted(BEYOND_FIVE_DIGITS)]
    assert [shard.url for shard in manifest.shards] == [
        f"shards/{n:05d}.tar" for n in sorted(BEYOND_FIVE_DIGITS)
    ]
    assert pq.read_table(tmp_path / METADATA)["key"].to_pylist() == ordered
    assert [one.key for one in PairsDataset.open(tmp_path).samples()] == ordered
    refused = pq.read_table(tmp_path / "quarantine/index.parquet")["key"].to_pylist()
    assert refused == [f"bad-{number}" for number in sorted(BEYOND_FIVE_DIGITS)]


@pytest.mark.parametrize("finishes", [True, False])
def test_what_an_earlier_try_left_of_a_part_is_gone(tmp_path: Path, finishes: bool) -> None:
    write(tmp_path, 1, refuse=True)
    if not finishes:  # ended before its receipt was written
        (tmp_path / "parts/00001.json").unlink()
    write(tmp_path, 1)
    write(tmp_path, 0, refuse=True)
    assemble(tmp_path, [], {})
    for path in (tmp_path / "parts").iterdir():
        path.unlink()
    (tmp_path / "parts").rmdir()
    assert verify(PairsDataset.open(tmp_path)) == []


def test_an_empty_part_that_was_ended_before_its_receipt_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(Exception):
        """As by kill -9."""

    def end(*_: object) -> None:
        raise Ended

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", end)
        with pytest.raises(Ended), PartWriter(tmp_path, 3) as part:
            part.quarantine("bad", "truncated", "ends early", b"bytes")
    forget(tmp_path, [3])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_parts_are_forgotten_together_and_no_other(tmp_path: Path) -> None:
    def files() -> set[str]:
        return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}

    write(tmp_path, 4)
    kept = files()
    for number in (3, 5, 100_004):
        with PartWriter(tmp_path, number) as part:
            part.add(sample("key"), phash=1)
            part.quarantine("bad", "truncated", "ends early", b"half")
            part.attach("scores", pa.table({"key": ["key"]}))
    forget(tmp_path, [3, 5, 6, 100_004])
    assert files() == kept
    forget(tmp_path / "nowhere", [3])


def test_the_bytes_of_refused_samples_are_in_one_tar_a_part(tmp_path: Path) -> None:
    with PartWriter(tmp_path, 12) as part:
        part.add(sample("key"), phash=1)
        part.quarantine("bad", "truncated", "ends early", b"half")
        part.quarantine("gone", "missing_file", "listed only")
        part.quarantine("bad", "empty", "no bytes", b"")
    write(tmp_path, 13)
    assert [path.name for path in (tmp_path / "quarantine").iterdir()] == ["00012.tar"]
    members = [Member("0000-bad", b"half"), Member("0002-bad", b"")]
    assert [*read_members(tmp_path / "quarantine/00012.tar")] == members
    assemble(tmp_path, [], {})
    files = pq.read_table(tmp_path / "quarantine/index.parquet")["file"].to_pylist()
    assert files == ["00012.tar/0000-bad", "", "00012.tar/0002-bad"]


def test_refused_bytes_are_not_held_and_are_on_disk_before_the_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, int]] = []

    def note(path: Path) -> None:
        assert not finished(tmp_path)
        flushed.append((path.relative_to(tmp_path).as_posix(), path.stat().st_size))

    monkeypatch.setattr(module, "flush", note)
    tracemalloc.start()
    with PartWriter(tmp_path, 0) as part:
        for number in range(32):
            part.quarantine(f"bad-{number}", "corrupt", "noise", bytes(1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    assert finished(tmp_path).keys() == {0}
    assert ("quarantine/00000.tar", (tmp_path / "quarantine/00000.tar").stat().st_size) in flushed


def test_refused_bytes_that_no_tar_is_read_for_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (module, archive):
        monkeypatch.setattr(place, "MEMBER_LIMIT", 4)
    with PartWriter(tmp_path, 0) as part:
        part.quarantine("large", "unsupported_format", "film.avi", b"large")
        part.quarantine("fits", "unsupported_format", "film.avi", b"fits")
    assemble(tmp_path, [], {})
    assert [one.payload and one.payload.read() for one in read_quarantine(tmp_path)] == [None, b"fits"]


KILLED = """
import os, signal, sys
from pathlib import Path
from blip.data.part import PartWriter

with PartWriter(Path(sys.argv[1]), 7) as part:
    for number in range(20):
        part.quarantine(f"bad-{number}", "corrupt", "noise", bytes(10_000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("refuse", [True, False])
def test_a_part_that_is_repeated_after_a_kill_has_nothing_of_the_first_try(
    tmp_path: Path, refuse: bool
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "d")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "d/quarantine/00007.tar").stat().st_size > 10_000
    write(tmp_path / "d", 7, refuse)
    write(tmp_path / "undisturbed", 7, refuse)
    for directory in (tmp_path / "d", tmp_path / "undisturbed"):
        assemble(directory, [], {})
    assert contents(tmp_path / "d") == contents(tmp_path / "undisturbed")
    assert (tmp_path / "d/quarantine/00007.tar").exists() == refuse


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def test_a_part_that_nobody_began_is_not_searched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 0)

    def search(self: Path, pattern: str) -> list[Path]:
        raise AssertionError(f"{self} is read through for {pattern}")

    monkeypatch.setattr(Path, "glob", search)
    write(tmp_path, 1)
    monkeypatch.undo()
    assert finished(tmp_path).keys() == {0, 1}
