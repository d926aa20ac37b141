"""The seconds of a stage that was ended and went on are those of all its attempts."""

import sys
from pathlib import Path

import pytest

from blip.stages.seconds import FOLDER, counted
from tests.processes import running, wait_until
from tests.stages.conftest import ROOT

ATTEMPT = """
import time
from blip.stages import seconds
seconds.EVERY = 0.2
with seconds.counted("pretrain", "run 1"):
    time.sleep(600)
"""


def spent(run_id: str) -> float:
    with counted("pretrain", run_id) as seconds:
        return seconds()


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_an_attempt_that_was_killed_counts_until_its_last_note() -> None:
    note = FOLDER / "pretrain.json"
    with running([sys.executable, "-c", ATTEMPT]):
        wait_until(note.is_file)
    first = spent("run 1")
    assert first >= 0.2
    assert spent("run 1") >= first, "of three attempts, too"
    assert spent("run 2") < first, "another run begins with none"


def test_an_attempt_that_ends_by_an_error_counts() -> None:
    with pytest.raises(KeyboardInterrupt), counted("pretrain", "run 1") as seconds:
        while seconds() < 0.3:
            pass
        raise KeyboardInterrupt
    assert spent("run 1") >= 0.3


def test_a_note_that_cannot_be_read_is_none() -> None:
    FOLDER.mkdir(parents=True)
    (FOLDER / "pretrain.json").write_text('{"run"')
    assert spent("run 1") < 60
