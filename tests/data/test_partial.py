"""Who may make a dataset: one process, or the ranks of one job; two jobs on one target do not mix."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from blip.data import partial
from blip.data.partial import begin, complete, discard, join
from blip.errors import BlipError

PLAN = {"of": "something"}
OTHER = """
import sys
from pathlib import Path
from blip.data.partial import begin, join
target, rank, ranks = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
plan = {"of": "something"}
begin(target, plan, ranks) if rank == 0 else join(target, plan, rank, ranks)
print("in", flush=True)
sys.stdin.read()
"""


def other(target: Path, rank: int, ranks: int) -> "subprocess.Popen[str]":
    """A process that makes the dataset too."""
    command = [sys.executable, "-c", OTHER, str(target), str(rank), str(ranks)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "in\n"
    return process


def let_end(process: "subprocess.Popen[str]") -> None:
    """It has nothing more to read, and ends well."""
    process.communicate()
    assert process.returncode == 0


def test_another_process_is_refused_even_with_another_plan_and_nothing_is_removed(tmp_path: Path) -> None:
    process = other(tmp_path / "out", 0, 1)
    (tmp_path / ".out.partial/part").write_text("work")
    for plan in (PLAN, {"of": "something else"}):
        with pytest.raises(
            BlipError, match=rf"another process \(pid {process.pid} on .*\) makes this dataset"
        ):
            begin(tmp_path / "out", plan)
    assert (tmp_path / ".out.partial/part").exists()
    let_end(process)
    begin(tmp_path / "out", PLAN)
    assert (tmp_path / ".out.partial/part").exists()


def test_ranks_join_their_own_job_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "ENDING_SECONDS", 0.0)
    target = tmp_path / "out"
    family = [other(target, 0, 3), other(target, 1, 3)]
    with pytest.raises(BlipError, match=r"makes this dataset as rank 1\."):
        join(target, PLAN, 1, 3)
    with pytest.raises(BlipError, match=r"was not begun within 0 s"):
        join(target, PLAN, 2, 4, patience=0.0)
    assert join(target, PLAN, 2, 3) == tmp_path / ".out.partial"
    for process in family:
        let_end(process)


def test_the_place_of_a_link_is_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk/big")
    assert begin(tmp_path / "out", PLAN) == tmp_path / "disk/.big.partial"


def test_what_is_discarded_is_free_and_leaves_nothing(tmp_path: Path) -> None:
    discard(begin(tmp_path / "out", PLAN))
    assert not list(tmp_path.iterdir())
    let_end(other(tmp_path / "out", 0, 1))


def test_what_only_served_to_make_it_is_not_waited_for_and_what_stays_gives_a_sign(tmp_path: Path) -> None:
    work, flushed = begin(tmp_path / "out", PLAN), list[str]()
    (work / "parts").mkdir()
    (work / "shards").mkdir()
    for number in range(3):
        (work / f"parts/{number}.json").write_text("receipt")
        (work / f"shards/{number}.tar").write_text("samples")
    complete(work, tmp_path / "out", "parts", on_file=lambda: flushed.append("file"))
    assert len(flushed) == 3
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["0.tar", "1.tar", "2.tar"]


def test_what_is_not_on_disk_is_not_put_in_place(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError("no space left")

    work = begin(tmp_path / "out", PLAN)
    (work / "parts").mkdir()
    (work / "shard").write_text("samples")
    with pytest.raises(OSError, match="no space left"):
        complete(work, tmp_path / "out", "parts", on_file=full)
    assert sorted(path.name for path in work.iterdir()) == ["parts", "plan.json", "ranks.json", "shard"]
    discard(work)


def test_what_another_plan_left_is_put_aside_and_taken_up_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = [{"threshold": 0.5, "of": {"web": ["abc", "d"]}}, {"threshold": 0.4, "of": {"web": ["abc", "e"]}}]
    for plan in plans:
        work = begin(tmp_path / "out", plan)
        assert not (work / "part").exists()
        (work / "part").write_text(str(plan["threshold"]))
    said = capsys.readouterr().err
    assert 'another plan (threshold 0.5, now 0.4; of.web.1 "d", now "e")' in said
    (aside,) = tmp_path.glob(".out.partial.????????")
    assert str(aside) in said and (aside / "part").read_text() == "0.5"
    assert (begin(tmp_path / "out", plans[0]) / "part").read_text() == "0.5"
    discard(tmp_path / ".out.partial")
    (aside,) = tmp_path.iterdir()
    assert (aside / "part").read_text() == "0.4"


@pytest.mark.parametrize(
    ("now", "goes_on"),
    [
        ({"runs": [{"lr": 1, "new": {"flip": False}}]}, True),
        ({"runs": [{"lr": 1, "new": {"flip": False}, "chosen": 3}]}, False),
        ({"runs": [{"lr": 2, "new": {"flip": False}}]}, False),
    ],
)
@pytest.mark.parametrize("aside", [False, True])
def test_what_an_earlier_version_left_goes_on_where_what_is_new_is_not_set(
    tmp_path: Path, now: dict[str, Any], goes_on: bool, aside: bool
) -> None:
    unset = {"runs.0.new.flip"}
    (begin(tmp_path / "out", {"runs": [{"lr": 1}]}) / "part").touch()
    if aside:
        begin(tmp_path / "out", PLAN)
    work = begin(tmp_path / "out", now, unset=unset)
    assert (work / "part").exists() == goes_on
    assert json.loads((work / "plan.json").read_text()) == now
    assert bool(list(tmp_path.glob(".out.partial.????????"))) != goes_on
    discard(work)


def test_a_plan_without_any_work_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(tmp_path / "out", PLAN)
    discard(begin(tmp_path / "out", {"of": "something else"}))
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().err


def test_a_plan_that_cannot_be_read_is_waited_for_and_its_work_is_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that fails: to read that file of /proc from its beginning gives EIO."""
    work = begin(tmp_path / "out", PLAN)
    (work / "part").write_text("days of work")
    (work / "plan.json").rename(work / "sound")
    (work / "plan.json").symlink_to("/proc/self/mem")
    with monkeypatch.context() as patch:
        patch.setattr("blip.rereading.PAUSES", (0.0,))
        with pytest.raises(BlipError, match=r"plan.json cannot be read: Input/output error. All .* stays"):
            begin(tmp_path / "out", PLAN)
    Timer(0.2, (work / "sound").replace, [work / "plan.json"]).start()
    assert (begin(tmp_path / "out", PLAN) / "part").read_text() == "days of work"
    discard(work)


def test_what_served_to_make_a_dataset_and_cannot_be_removed_stays_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on NFS, where a file that a process has open leaves another one in its folder."""
    scaffold, rmdir = tmp_path / ".out.partial.scaffold", os.rmdir

    def refused(path: Any, **how: Any) -> None:
        if Path(path).name == scaffold.name:
            (scaffold / ".nfs0001").touch()
            raise OSError(errno.ENOTEMPTY, "Directory not empty", path)
        rmdir(path, **how)

    def make(content: str) -> None:
        work = begin(tmp_path / "out", {"of": content})
        (work / "data").write_text(content)
        (work / "part").touch()
        complete(work, tmp_path / "out", "part")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", refused)
        for content in ("one", "another"):
            make(content)
            assert [file.name for file in (tmp_path / "out").iterdir()] == ["data"]
            assert (tmp_path / "out/data").read_text() == content
    assert f"{scaffold} cannot be removed" in capsys.readouterr().err
    begin(tmp_path / "out", PLAN)
    assert not scaffold.exists()
