"""A lock keeps other processes out, says who has it, and is free when its holder is gone, however it went."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blip.errors import BlipError
from blip.lock import hold, is_held, let_go
from blip.tracking import store
from flows.project import one_run_at_a_time

HOLDER = """
import os, sys, time
from pathlib import Path
from blip.lock import hold
hold(Path(sys.argv[1]), "it", "uses it")
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, b".")  # it has begun, and let go of what its parent holds
    time.sleep(20)  # a worker that outlives its parent for a while
    os._exit(0)
os.read(read, 1)
print("held", flush=True)
time.sleep(60)
"""


def holder(file: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(file)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_another_process_is_refused_until_the_holder_is_killed(tmp_path: Path) -> None:
    process = holder(tmp_path / "lock")
    said = rf"^it: another process \(pid {process.pid} on {socket.gethostname()}\) uses it\. "
    with pytest.raises(BlipError, match=said):
        hold(tmp_path / "lock", "it", "uses it")
    process.send_signal(signal.SIGKILL)
    process.wait()
    hold(tmp_path / "lock", "it", "uses it")
    assert (tmp_path / "lock").read_text() == f"{os.getpid()} {socket.gethostname()}\n"
    let_go(tmp_path / "lock")


def test_a_lock_that_nobody_is_left_to_let_go_is_free_when_its_file_is_removed_as_the_message_says(
    tmp_path: Path,
) -> None:
    process = holder(tmp_path / "lock")  # stands for the server of a network's disk whose client has gone
    with pytest.raises(BlipError) as refused:
        hold(tmp_path / "lock", "it", "uses it")
    assert str(refused.value).endswith(f"uses it. If its host is gone for good, remove {tmp_path / 'lock'}")
    (tmp_path / "lock").unlink()
    hold(tmp_path / "lock", "it", "uses it")
    let_go(tmp_path / "lock")
    process.kill()
    process.wait()


def test_patience_is_for_a_holder_that_is_ending(tmp_path: Path) -> None:
    process = holder(tmp_path / "lock")
    began = time.monotonic()
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {process.pid}"])
    hold(tmp_path / "lock", "it", "uses it", patience=20)
    assert 0.3 < time.monotonic() - began < 15
    killer.wait()
    process.wait()
    let_go(tmp_path / "lock")


def test_its_own_hold_stops_no_process_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hold(Path("lock"), "it", "uses it")
    hold(tmp_path / "lock", "it", "uses it")
    let_go(Path("lock"))
    let_go(Path("lock"))
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", none)
    monkeypatch.chdir(tmp_path)
    hold(tmp_path / "lock", "it", "uses it")
    for _ in range(2):
        with store.locked("store"), one_run_at_a_time():
            pass
    said = capsys.readouterr().err.splitlines()
    files = (tmp_path / name for name in ("lock", ".blip/store.lock", ".blip/run.lock"))
    why = "no locks here (Function not implemented), so see to it that one runs"
    assert said == [f"warning: {file}: {why}" for file in files]
    let_go(tmp_path / "lock")


def test_whether_it_is_held_is_seen_without_taking_it(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock") and not (tmp_path / "lock").exists()
    process = holder(tmp_path / "lock")
    assert is_held(tmp_path / "lock")
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while is_held(tmp_path / "lock"):  # its fork may not have run yet
        assert time.monotonic() < deadline
        time.sleep(0.1)
