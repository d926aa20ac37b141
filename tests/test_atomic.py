"""A target is old or new and never half of either; what is no file is left alone, what was left is cleared up."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from blip import atomic
from blip.atomic import atomic_path, put_in_place, take_away, write_text
from blip.errors import BlipError


def old_and_new(folder: Path) -> tuple[Path, Path]:
    """A model that is in its place, and another that is to take it."""
    made = folder / "model", folder / "new"
    for path, text in zip(made, ("old", "new"), strict=True):
        path.mkdir()
        (path / "weights").write_text(text)
    return made


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(BlipError, match="/dev/null is a device"):
        write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


def test_a_folder_that_cannot_be_removed_is_not_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, new = old_and_new(tmp_path)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt(path)

    monkeypatch.setattr(atomic, "_remove", killed)
    with pytest.raises(KeyboardInterrupt, match=r"\.old\.tmp"):
        put_in_place(new, target)
    assert (target / "weights").read_text() == "new"


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(ValueError, match="no"), atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("new")
        raise ValueError("no")
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


KILLED = """
import os, signal, sys
from pathlib import Path
from blip import atomic

def die(self, target):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "between":  # the two renames of a directory
    Path.replace = die
with atomic.atomic_path(Path(sys.argv[1])) as temporary:
    temporary.mkdir()
    (temporary / "weights").write_text("new")
    if sys.argv[2] == "waiting":
        print("writes", flush=True)
        sys.stdin.read()
"""


def writer(target: Path, how: str) -> "subprocess.Popen[str]":
    """A process that writes a directory and is killed, or waits in the middle of it."""
    command = [sys.executable, "-c", KILLED, str(target), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_process_left_goes_when_the_next_one_writes(tmp_path: Path) -> None:
    processes = [writer(tmp_path / name, "waiting") for name in ("model", "other")]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "writes\n"
    for process in processes:
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / "model", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_running_process_writes_is_left_alone(tmp_path: Path) -> None:
    process = writer(tmp_path / "model", "waiting")
    assert process.stdout is not None and process.stdout.readline() == "writes\n"
    write_text(tmp_path / "beside", "text")
    process.communicate()
    assert process.returncode == 0
    assert (tmp_path / "model/weights").read_text() == "new"


def test_a_kill_between_the_two_renames_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").write_text("old")
    assert writer(tmp_path / "model", "between").wait() == -signal.SIGKILL
    assert not (tmp_path / "model").exists()
    write_text(tmp_path / "beside", "text")
    assert (tmp_path / "model/weights").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "model"]


def gone() -> int:
    """The number of a process that was."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_may_be_written_on_another_machine_stays_while_it_changes(tmp_path: Path) -> None:
    left = tmp_path / f".model.00000000.{gone()}.tmp"
    (left / "folder").mkdir(parents=True)
    (left / "folder/file").write_text("text")
    for path in (left, left / "folder"):
        os.utime(path, (0, 0))
    write_text(tmp_path / "model", "text")
    assert left.exists(), "a file in it is new"
    os.utime(left / "folder/file", (0, 0))
    write_text(tmp_path / "model", "text")
    assert not left.exists()


def test_what_a_killed_container_left_goes_although_another_one_has_a_process_of_its_number(
    tmp_path: Path,
) -> None:
    """Each has a process 1, as each has here that of this test."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/weights").write_text("old")
    (tmp_path / "other").rename(tmp_path / f".other.00000000.{os.getpid()}.old.tmp")
    (tmp_path / f".model.00000000.{os.getpid()}.tmp").write_text("half")
    write_text(tmp_path / "model", "text")
    assert len(list(tmp_path.iterdir())) == 3, "it may be at work still"
    for path in tmp_path.rglob("*"):
        os.utime(path, (0, 0))
    write_text(tmp_path / "model", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "other"]
    assert (tmp_path / "other/weights").read_text() == "old"


def test_a_machine_of_the_same_name_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of one image share a disk: a process of the first is not missing because the second has none like it."""
    left = tmp_path / f".model.{atomic._machine()}.{gone()}.tmp"
    left.write_text("text")
    (tmp_path / "boot").write_text("of another machine\n")
    monkeypatch.setattr(atomic, "BOOT", tmp_path / "boot")
    atomic._machine.cache_clear()
    try:
        write_text(tmp_path / "model", "text")
    finally:
        atomic._machine.cache_clear()
    assert left.exists()


def test_files_of_others_that_are_called_alike_stay(tmp_path: Path) -> None:
    other = tmp_path / f".editor.{gone()}.tmp"
    other.write_text("text")
    os.utime(other, (0, 0))
    write_text(tmp_path / "model", "text")
    assert other.exists()


def test_what_was_there_is_there_again_when_the_new_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, new = old_and_new(tmp_path)

    def fails(self: Path, target: Path) -> None:
        raise OSError(5, "Input/output error", str(target))

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="Input/output"):
        put_in_place(new, target)
    assert (target / "weights").read_text() == "old" and (new / "weights").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "new"]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another disk."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def test_a_link_to_a_folder_on_another_disk_stays_one(tmp_path: Path, elsewhere: Path) -> None:
    (elsewhere / "big").mkdir()
    (tmp_path / "model").symlink_to(elsewhere / "big")
    with atomic_path(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "weights").write_text("new")
    assert (tmp_path / "model").is_symlink() and (elsewhere / "big/weights").read_text() == "new"
    assert [path.name for path in elsewhere.iterdir()] == ["big"]


def test_a_link_to_a_file_is_replaced_and_the_file_stays(tmp_path: Path) -> None:
    (tmp_path / "cached").write_text("old")
    (tmp_path / "a").symlink_to(tmp_path / "cached")
    write_text(tmp_path / "a", "new")
    assert not (tmp_path / "a").is_symlink() and (tmp_path / "cached").read_text() == "old"


def test_what_is_taken_away_is_gone_and_a_link_to_it_stays(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "big/file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "big")
    take_away(tmp_path / "link")
    take_away(tmp_path / "never there")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
    assert (tmp_path / "link").is_symlink()
