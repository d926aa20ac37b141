"""Whose folder a run may work in: what it writes there has to be its owner's."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from blip.errors import BlipError
from flows.project import one_run_at_a_time
from tests.accounts import as_nobody
from tests.flows.toy import ROOT

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders of several accounts")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, in which every account may write."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o777)
        monkeypatch.chdir(made)
        yield Path(made)


@needs_root
def test_no_run_writes_into_the_folder_of_another_account(folder: Path) -> None:
    os.chown(folder, 54_321, 54_321)
    with as_nobody(), pytest.raises(BlipError) as refused, one_run_at_a_time():
        pass
    assert str(refused.value).startswith(
        f"{folder} is account 54321's, who could not change what a run of nobody writes there; run it as account 54321"
    )
    assert list(folder.iterdir()) == []


@needs_root
@pytest.mark.parametrize("owner", [0, 65_534])
def test_in_a_folder_of_ones_own_or_on_a_volume_of_root_it_runs(folder: Path, owner: int) -> None:
    os.chown(folder, owner, owner)
    with as_nobody(), one_run_at_a_time():
        assert (folder / ".blip/run.lock").exists()


@needs_root
@pytest.mark.parametrize(("mask", "runs"), [(0o002, True), (0o022, False)])
def test_in_a_folder_that_a_group_shares_its_members_run(folder: Path, mask: int, runs: bool) -> None:
    """Unless they make files that the others may not change."""
    os.chown(folder, 54_321, 54_321)
    folder.chmod(0o2777)
    before = os.umask(mask)
    try:
        with as_nobody(), nullcontext() if runs else pytest.raises(BlipError), one_run_at_a_time():
            pass
    finally:
        os.umask(before)
    assert (folder / ".blip/run.lock").exists() is runs


@needs_root
def test_root_runs_anywhere_as_in_a_container(folder: Path) -> None:
    os.chown(folder, 54_321, 54_321)
    with one_run_at_a_time():
        assert (folder / ".blip/run.lock").exists()


@needs_root
def test_an_account_without_a_name_has_one_for_dvc(project: Path) -> None:
    said = _said_without_a_name("from flows.project import *; print(sorted(changed_stages()))")
    assert "'ingest'" in said


@needs_root
def test_the_doctor_says_how_an_account_without_a_name_gets_one(project: Path) -> None:
    said = _said_without_a_name("from blip.doctor.machine import _dvc; print(_dvc().text)")
    assert said == "the account 54321 has no name, and DVC does not start without one; export LOGNAME=me\n"


def _said_without_a_name(code: str) -> str:
    """What Python prints where neither the machine nor the environment has a name for the account."""
    command = [sys.executable, "-c", f"import os; os.setresuid(54321, 0, 0); {code}"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(Path.cwd())}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
