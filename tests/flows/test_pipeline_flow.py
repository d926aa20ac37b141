"""The flows on a toy project, against a real Prefect server and a real DVC repository."""

import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun

from blip.config import load_settings
from blip.config.graph import PHASES, STAGES
from flows import schedule
from flows.graph import up_to
from flows.pipeline import capfilt, data, end_to_end
from flows.project import STATE, changed_stages
from flows.stage import run_stage
from tests.flows.toy import dvc, output
from tests.processes import running, wait_until

pytestmark = pytest.mark.usefixtures("prefect_api")


def tasks_of(state: State) -> dict[str, TaskRun]:
    """The task runs of a flow run by stage, as the server has them."""
    run = state.state_details.flow_run_id
    assert run is not None
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
    return {task.name: task for task in found}


def artifacts_of(state: State) -> dict[str | None, object]:
    """What the artifacts of a flow run say, by key."""
    run = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
    return {artifact.key: artifact.data for artifact in found}


def states_of(state: State) -> dict[str, str]:
    return {name: task.state.name for name, task in tasks_of(state).items() if task.state and task.state.name}


@pytest.mark.slow
def test_the_whole_pipeline_runs_once_and_then_finds_nothing_to_do(project: Path):
    first = end_to_end(parallel=3, return_state=True)
    locked = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    second = end_to_end(return_state=True)

    assert first.message == "19 stages ran, 0 were up to date"
    assert set(locked) == set(STAGES)
    assert all(Path(output(name)).is_file() for name in STAGES)
    assert second.message == "0 stages ran, 19 were up to date"
    assert states_of(second) == dict.fromkeys(STAGES, "Cached")
    assert "up to date" in dvc(project, "repro")


def test_until_a_stage_runs_it_and_what_it_needs(project: Path):
    state = end_to_end(until="validate", return_state=True)

    assert states_of(state) == {"ingest": "Completed", "validate": "Completed"}


def test_a_changed_parameter_is_seen_by_dvc_and_runs_what_depends_on_it(project: Path):
    end_to_end(until="captioner", return_state=True)

    state = end_to_end(until="captioner", overrides={"pretrain.steps": 12}, return_state=True)

    assert load_settings().pretrain.steps == 12
    assert states_of(state) == {
        "ingest": "Cached", "validate": "Cached", "pretrain": "Completed", "captioner": "Cached",
    }  # fmt: skip


def test_a_users_mistake_fails_with_its_message_without_another_attempt(project: Path):
    Path("faults/validate").write_text("1 dataset web has 4 samples, fewer than validate.min_samples = 16")

    state = end_to_end(until="captioner", return_state=True)

    assert state.is_failed()
    assert state.message == (
        "validate: error: dataset web has 4 samples, fewer than validate.min_samples = 16\n"
        "not run because of it: pretrain, captioner"
    )
    assert tasks_of(state)["validate"].run_count == 1


@pytest.mark.parametrize("fault", ["kill", "75 preempted with a checkpoint"])
def test_an_interrupted_stage_is_tried_again(project: Path, fault: str):
    Path("faults/ingest").write_text(fault)

    state = end_to_end(until="ingest", return_state=True)

    assert state.is_completed()
    assert tasks_of(state)["ingest"].run_count == 2


def test_a_stage_that_takes_too_long_is_ended(project: Path):
    @flow
    def hurried(seconds: int) -> State:
        return run_stage.with_options(timeout_seconds=seconds)("ingest", return_state=True)

    for seconds in (8, 24, 72):  # DVC has to start within, however busy the machine is
        Path("faults/ingest").write_text("hang")
        said = str(hurried(seconds, return_state=True).result(raise_on_failure=False))
        assert f"exceeded timeout of {seconds}.0 second(s)" in said
        if Path("hanging").exists():
            break
    assert Path("saved").read_text() == "ingest"


def test_results_that_cannot_be_brought_back_are_a_failure(project: Path):
    end_to_end(until="ingest", return_state=True)
    shutil.rmtree("out")
    Path("out").symlink_to("nowhere")  # where their folder has to be made

    state = end_to_end(until="validate", return_state=True)

    assert "is cached - skipping run" in Path(".blip/logs/ingest.log").read_text()
    assert state.is_failed()
    assert states_of(state) == {"ingest": "Failed"}


def test_a_failure_holds_up_only_what_depends_on_it(project: Path):
    end_to_end(until="pretrain", return_state=True)
    Path("faults/captioner").write_text("1 no")

    state = capfilt(return_state=True)

    assert state.is_failed()
    assert states_of(state) == {"captioner": "Failed", "filter": "Completed"}
    assert state.message and state.message.endswith(
        "not run because of it: capfilt, pretrain_bootstrapped, rounds"
    )


def test_a_phase_runs_its_own_stages(project: Path):
    state = data(return_state=True)

    assert set(states_of(state)) == set(PHASES["data"])


def change_graph(edit: Callable[[dict[str, dict]], None]) -> None:
    """Edit the stages of dvc.yaml, as its user may."""
    graph = yaml.safe_load(Path("dvc.yaml").read_text())
    edit(graph["stages"])
    Path("dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))


def test_a_stage_that_was_taken_out_of_dvc_yaml_is_passed_over(project: Path):
    def without_validation(stages: dict[str, dict]) -> None:
        del stages["validate"]
        deps = stages["pretrain"]["deps"]
        stages["pretrain"]["deps"] = [output("ingest") if dep == output("validate") else dep for dep in deps]

    change_graph(without_validation)

    state = end_to_end(until="pretrain", return_state=True)

    assert states_of(state) == {"ingest": "Completed", "pretrain": "Completed"}
    assert "no stage validate" in (end_to_end(until="validate", return_state=True).message or "")
    Path(output("ingest")).unlink()
    assert "not up to date: ingest, pretrain;" in (capfilt(return_state=True).message or "")


def test_a_stage_that_the_flow_does_not_know_is_not_passed_over(project: Path):
    def with_another(stages: dict[str, dict]) -> None:
        stages["deduplicate"] = {
            "cmd": "echo done > out/single",
            "deps": [output("ingest")],
            "outs": ["out/single"],
        }

    change_graph(with_another)

    state = data(return_state=True)

    assert state.is_failed()
    assert "stages that the flow does not know: deduplicate; bring them up to date with `dvc repro`" in (
        state.message or ""
    )


def test_what_capfilt_kept_and_the_way_to_its_gallery_are_artifacts_of_the_flow(project: Path):
    folder = Path("reports/capfilt")
    folder.mkdir(parents=True)
    (folder / "summary.md").write_text("| Source | web texts kept |\n| - | -: |\n| twemoji | 44.7% |\n")
    end_to_end(until="filter", return_state=True)
    assert artifacts_of(capfilt(return_state=True)) == {
        "capfilt": (folder / "summary.md").read_text(),
        "capfilt-gallery": f"gallery of CapFilt (served by `make ui`): `{project}/reports/capfilt/index.html`",
    }


def test_a_run_that_ends_before_capfilt_publishes_nothing_about_it(project: Path):
    Path("reports/capfilt").mkdir(parents=True)
    Path("reports/capfilt/summary.md").write_text("of another run")

    assert artifacts_of(end_to_end(until="ingest", return_state=True)) == {}


def test_a_phase_without_the_ones_before_it_says_what_to_run_and_changes_nothing(project: Path):
    before = Path("params.yaml").read_text()

    state = capfilt(overrides={"pretrain.steps": 12}, return_state=True)

    assert state.is_failed()
    assert state.message and "not up to date: ingest, validate, pretrain" in state.message
    assert Path("params.yaml").read_text() == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"overrides": {"pretrain.stepps": 1}}, "did you mean 'steps'?"),
        ({"recipe": "base-15m"}, "unknown recipe 'base-15m'"),
        ({"until": "pretain"}, "there is no stage 'pretain'"),
    ],
)
def test_wrong_parameters_fail_before_anything_runs(project: Path, wrong: dict, message: str):
    state = end_to_end(**wrong, return_state=True)

    assert state.is_failed()
    assert message in (state.message or "")
    assert not Path("out").exists()


def test_a_second_run_in_the_same_folder_is_refused(project: Path):
    STATE.mkdir()
    with (STATE / "run.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("4711")
        other.flush()

        state = data(return_state=True)

    assert state.is_failed()
    assert "another run (process 4711) is at work" in (state.message or "")


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0,
    reason="no mount namespaces here",
)
def test_a_full_disk_is_the_message_that_a_flow_ends_with(project: Path, prefect_api: str):
    full = 'mkdir .blip && mount -t tmpfs -o size=1m,nr_inodes=1 tmpfs .blip && exec "$@"'
    command = ["unshare", "-rm", "bash", "-c", full, "bash", sys.executable, "-m", "flows.demo"]
    environment = {**os.environ, "PREFECT_API_URL": prefect_api}

    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    assert ended.returncode == 1
    where = f"writing .blip/run.lock; 0 of 1 inodes free on the disk of {project.resolve() / '.blip'}"
    assert f"\nerror: no file can be added ({where})." in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_interrupted_flow_ends_its_stage_and_the_next_one_continues(project: Path, prefect_api: str):
    Path("faults/ingest").write_text("hang")
    environment = {**os.environ, "PREFECT_API_URL": prefect_api}
    command = [sys.executable, "-m", "flows.demo", "--until", "validate"]
    with running(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        wait_until(Path("hanging").exists, 300)
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=300)

    assert demo.returncode == 130
    assert b"the same command continues where this stopped" in said
    assert Path("saved").read_text() == "ingest"
    assert end_to_end(until="validate", return_state=True).is_completed()
    assert not set(up_to("validate")) & changed_stages()


def test_states_that_the_server_does_not_get_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(schedule, "get_run_logger", lambda: logging.getLogger("a run"))
    schedule.wait_until_recorded([uuid4()], patience=0.1)
    assert "has the last state of 0 of 1 stages after 0 s" in caplog.text
