"""A DVC stage run for a flow: how it ended is known, and whether another attempt is worth it."""

import json
import os
import threading
import time
from pathlib import Path

import psutil
import pytest
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from blip.config import Settings
from flows import stage
from flows.project import changed_stages, settings_in_use, stage_environment
from flows.stage import (
    INTERRUPTED,
    Outcome,
    Story,
    once_unlocked,
    reproduce,
    run_stage,
    worth_another_attempt,
)
from tests.flows.toy import dvc


def until_there(path: Path) -> str:
    """Wait for a file, and give what is in it."""
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.read_text()


def run(name: str) -> tuple[Outcome, list[str]]:
    shown: list[str] = []
    return reproduce(name, stage_environment(), shown.append), shown


def test_a_stage_runs_and_only_its_own_lines_are_shown(project: Path):
    outcome, shown = run("ingest")

    assert outcome.succeeded
    assert shown == ["ingest: step 1 loss 0.50"]
    assert "Running stage 'ingest'" in Path(".blip/logs/ingest.log").read_text()
    assert "ingest" not in changed_stages()


def test_a_log_without_room_does_not_end_the_stage(project: Path):
    log = Path(".blip/logs/ingest.log")
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")

    outcome, shown = run("ingest")

    assert outcome.succeeded
    missing = f"warning: lines are missing in {log}: No space left on device; the stage goes on"
    assert sorted(shown) == ["ingest: step 1 loss 0.50", missing]
    assert Path("out/ingest").exists()


def test_a_stage_whose_inputs_are_the_same_is_left_alone(project: Path):
    run("ingest")

    outcome, shown = run("ingest")

    assert outcome.succeeded
    assert outcome.unchanged
    assert shown == []


@pytest.mark.parametrize(
    ("fault", "code", "interrupted"),
    [
        ("1 the data are wrong", 1, False),
        ("2 no such setting", 2, False),
        ("75 stopped", 75, True),
        ("kill", 128 + 9, True),
    ],
)
@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_how_a_stage_failed_is_told_apart(
    project: Path, monkeypatch: pytest.MonkeyPatch, shell: str, fault: str, code: int, interrupted: bool
):
    monkeypatch.setenv("SHELL", shell)  # in which DVC runs a stage; not every one stays between the two
    Path("faults/ingest").write_text(fault)

    outcome, _ = run("ingest")

    assert (outcome.succeeded, outcome.exit_code, outcome.interrupted) == (False, code, interrupted)


def test_the_message_of_a_failure_is_the_stages_own(project: Path):
    Path("faults/ingest").write_text("1 data/cats.tar is not there; fetch it first")

    assert run("ingest")[0].message == "error: data/cats.tar is not there; fetch it first"


def test_a_password_in_what_a_stage_says_goes_no_further(project: Path):
    Path("faults/ingest").write_text("1 RuntimeError: http://me:S3cret@host:5000/api is down")
    outcome, shown = run("ingest")

    assert outcome.message.endswith("RuntimeError: http://***@host:5000/api is down")
    assert "S3cret" not in "".join([*shown, Path(".blip/logs/ingest.log").read_text()])


def test_a_stage_without_its_inputs_says_which_is_missing(project: Path):
    outcome, _ = run("validate")

    assert not outcome.interrupted
    assert "out/ingest" in outcome.message


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_dvc_killed_itself_is_an_interruption(project: Path, monkeypatch: pytest.MonkeyPatch, shell: str):
    monkeypatch.setenv("SHELL", shell)
    Path("faults/ingest").write_text("hang")

    def kill_dvc(line: str) -> None:
        if "step 1" in line:
            above = psutil.Process(int(until_there(Path("hanging")))).parents()
            next(process for process in above if "repro" in process.cmdline()).kill()

    outcome = reproduce("ingest", stage_environment(), kill_dvc)

    assert (outcome.succeeded, outcome.exit_code, outcome.interrupted) == (False, 128 + 9, True)
    assert "dvc was killed" in outcome.message
    assert Path("saved").exists()


def test_a_traceback_is_kept_whole():
    story = Story()
    for line in ("working", "Traceback (most recent call last):", '  File "x.py", line 1', "ValueError: no"):
        story.heard(line)
    story.heard("ERROR: failed to reproduce 'x': failed to run: blip stage x, exited with 1")

    assert story.exit_code == 1
    assert story.message().splitlines()[0] == "Traceback (most recent call last):"
    assert story.message().splitlines()[-1] == "ValueError: no"


def test_an_empty_folder_is_no_news():
    assert not Story().heard("WARNING: 'models/rounds' is empty.")
    assert Story().heard("WARNING: 'models/rounds' is not empty.")


def test_a_lock_that_is_held_is_worth_waiting_for():
    assert Outcome(False, None, False, "ERROR: Unable to acquire lock. Most likely another DVC").interrupted


@pytest.mark.parametrize(
    ("state", "again"),
    [
        (Failed(name=INTERRUPTED), True),
        (Failed(name="TimedOut"), False),
        (Failed(), False),
        (Completed(), False),
    ],
)
def test_only_interruptions_are_tried_again(state: State, again: bool):
    assert worth_another_attempt(None, None, state) is again


def test_an_attempt_that_waits_when_the_run_is_ended_is_not_begun(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stage, "_stopping", threading.Event())
    stage._stopping.set()
    assert run_stage.fn("ingest").is_cancelled()
    assert not Path(".blip/logs/ingest.log").exists()


def test_a_run_that_is_ended_while_a_stage_is_being_started_ends_the_stage_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stage, "_stopping", threading.Event())
    Path("faults/ingest").write_text("hang")

    def settings_that_take_long() -> Settings:
        stage.stop_all_stages()
        return settings_in_use()

    monkeypatch.setattr(stage, "settings_in_use", settings_that_take_long)
    began = time.monotonic()

    outcome, _ = run("ingest")

    assert not outcome.succeeded
    assert time.monotonic() - began < 300, "the stage hangs for 600 s"


def test_two_stages_at_once_both_enter_the_lock_file(project: Path):
    import threading

    for name in ("ingest", "validate", "pretrain"):
        run(name)
    threads = [threading.Thread(target=run, args=(name,)) for name in ("captioner", "filter")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive()

    assert not {"captioner", "filter"} & changed_stages()
    lock = Path("dvc.lock").read_text()
    assert "captioner:" in lock and "filter:" in lock


def test_an_exception_while_a_stage_runs_ends_it_and_keeps_its_checkpoint(project: Path):
    Path("faults/ingest").write_text("hang")

    def interrupt(_: str) -> None:
        until_there(Path("hanging"))
        raise TimeoutError

    with pytest.raises(TimeoutError):
        reproduce("ingest", stage_environment(), interrupt)
    assert Path("saved").read_text() == "ingest"
    assert "ingest" in changed_stages()
    assert run("ingest")[0].succeeded


def test_dvc_alone_agrees_with_what_the_flow_did(project: Path):
    run("ingest")

    assert "Stage 'ingest' didn't change" in dvc(project, "repro", "ingest")


@pytest.mark.parametrize(("patience", "succeeded"), [(600.0, True), (0.5, False)])
def test_a_stage_waits_while_the_one_of_a_cancelled_run_may_still_save(
    project: Path, monkeypatch: pytest.MonkeyPatch, patience: float, succeeded: bool
):
    monkeypatch.setattr(stage, "AFTERWARDS", 0.5)
    monkeypatch.setattr(stage, "LOOK_AGAIN", 0.1)
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(f"{params}\nlaunch: {{stop_timeout: {patience}}}\n")
    holder = {"pid": os.getpid(), "cmd": "dvc repro --single-item ingest"}
    taken = Path(".dvc/tmp/rwlock")
    taken.parent.mkdir(exist_ok=True)
    taken.write_text(json.dumps({"write": {str(Path("out/ingest").absolute()): holder}}))
    outcomes = [run("ingest")[0]]

    def again() -> Outcome:
        if succeeded and len(outcomes) == 2:
            taken.write_text("{}")
        outcomes.append(run("ingest")[0])
        return outcomes[-1]

    assert once_unlocked(outcomes[0], again).succeeded is succeeded
    assert [outcome.locked for outcome in outcomes[:2]] == [True, True]


@pytest.mark.parametrize(("stop_timeout", "saved"), [(60.0, True), (0.5, False)])
def test_a_stage_that_is_ended_has_as_long_to_save_as_the_settings_say(
    project: Path, monkeypatch: pytest.MonkeyPatch, stop_timeout: float, saved: bool
):
    monkeypatch.setattr(stage, "AFTERWARDS", 0.5)
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(f"{params}\nlaunch: {{stop_timeout: {stop_timeout}}}\n")
    Path("faults/ingest").write_text("hang 5")

    def interrupt(_: str) -> None:
        until_there(Path("hanging"))
        raise TimeoutError

    with pytest.raises(TimeoutError):
        reproduce("ingest", stage_environment(), interrupt)
    assert Path("saved").exists() is saved
