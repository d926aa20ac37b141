"""A flow run whose end no server heard of lets go of its place in the pool, once no run is at work here."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Running

from flows import deploy
from flows.lost_runs import end_lost_runs
from flows.project import one_run_at_a_time
from tests.flows.toy import ROOT

POOL = "lost-runs"
LATER = timedelta(seconds=1)


@flow(name="left")
def left() -> None:
    """A flow that nobody runs: the test says what state its runs are in."""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api: str) -> dict[str, FlowRun]:
    """Runs of a pool that is one at a time: one that seems to run, one that ended; and one of no pool.

    The server's home is the .prefect of the current folder.
    """
    monkeypatch.chdir(tmp_path)
    Path(".prefect").symlink_to(os.environ["PREFECT_HOME"])
    with get_client(sync_client=True) as client:
        if POOL not in {pool.name for pool in client.read_work_pools()}:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process", concurrency_limit=1))
        return {
            "running": client.create_flow_run(left, state=Running(), work_pool_name=POOL),
            "ended": client.create_flow_run(left, state=Completed(), work_pool_name=POOL),
            "elsewhere": client.create_flow_run(left, state=Running()),
        }


def states(runs: dict[str, FlowRun]) -> list[str | None]:
    with get_client(sync_client=True) as client:
        return [client.read_flow_run(run.id).state_name for run in runs.values()]


def test_a_run_that_nobody_is_at_work_on_is_crashed(runs: dict[str, FlowRun], prefect_api: str) -> None:
    assert end_lost_runs(prefect_api, POOL, datetime.now(UTC) + LATER) == [runs["running"].name]
    assert states(runs) == ["Crashed", "Completed", "Running"]
    assert end_lost_runs(prefect_api, POOL, datetime.now(UTC) + LATER) == []


def test_a_run_that_is_at_work_or_about_to_be_is_left(runs: dict[str, FlowRun], prefect_api: str) -> None:
    with one_run_at_a_time():
        assert end_lost_runs(prefect_api, POOL, datetime.now(UTC) + LATER) == []
    assert end_lost_runs(prefect_api, POOL, datetime.now(UTC) - timedelta(hours=1)) == []
    assert states(runs) == ["Running", "Completed", "Running"]
    end_lost_runs(prefect_api, POOL, datetime.now(UTC) + LATER)


def test_the_run_of_another_folder_is_left_where_one_home_has_the_runs_of_both(
    runs: dict[str, FlowRun], prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clone").mkdir()
    with one_run_at_a_time(), monkeypatch.context() as elsewhere:
        elsewhere.chdir(tmp_path / "clone")
        assert end_lost_runs(prefect_api, POOL, datetime.now(UTC) + LATER) == []
    assert states(runs) == ["Running", "Completed", "Running"]
    end_lost_runs(prefect_api, POOL, datetime.now(UTC) + LATER)


def test_the_pages_let_go_of_what_was_lost_before_they_came(
    runs: dict[str, FlowRun],
    prefect_api: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(deploy, "POOL", POOL)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    deploy.let_go_of_lost_runs({"PREFECT_API_URL": prefect_api}, datetime.now(UTC).timestamp() + 1)
    assert (
        f"the flow run {runs['running'].name} is Crashed now: its end was not heard of"
        in capsys.readouterr().out
    )
    assert states(runs) == ["Crashed", "Completed", "Running"]
