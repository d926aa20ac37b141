"""Flow runs whose end no server heard of, for it was gone by then: each would hold the only place in the pool for ever.

    python -m flows.lost_runs POOL SECONDS     # of the server of PREFECT_API_URL, before a moment (since the epoch)

A run of this project holds its lock from before its first stage to after its last: while that is free, none is at work.
A server with another home than .prefect may have runs of other folders, whose locks are not seen from here: these stay.
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed

from blip.errors import BlipError
from flows.project import PREFECT_HOME, one_run_at_a_time

HOLDING = [StateType.PENDING, StateType.RUNNING]  # what the server counts against the limit of a pool
UNHEARD = "its end was not heard of: the server was gone, or its process was killed; what it has made is kept"


def end_lost_runs(api: str, pool: str, before: datetime) -> list[str]:
    """Set the runs of the pool to Crashed that hold a place and are not at work; their names.

    Args:
        api: of the server; of one that has not the runs of this project alone, none is touched.
        before: those that have been in their state since then; a later one may be about to take the lock.
    """
    try:
        with one_run_at_a_time(), SyncPrefectClient(api=api) as client:
            if _home(client) != PREFECT_HOME.resolve():
                return []
            lost = [run for run in _holding(client, pool) if run.state and run.state.timestamp < before]
            for run in lost:
                client.set_flow_run_state(run.id, Crashed(message=UNHEARD), force=True)
            return [run.name for run in lost]
    except BlipError:  # one is at work
        return []


def _home(client: SyncPrefectClient) -> Path:
    """The folder where the server has its database."""
    return Path(client.request("GET", "/admin/settings").json()["home"]).resolve()


def _holding(client: SyncPrefectClient, pool: str) -> list[FlowRun]:
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=HOLDING))
    pools = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=states), work_pool_filter=pools)


def main(arguments: list[str]) -> int:
    """Say which runs are Crashed now; a program of its own, for Prefect reads its settings as it is imported."""
    pool, seconds = arguments
    for name in end_lost_runs(
        os.environ["PREFECT_API_URL"], pool, datetime.fromtimestamp(float(seconds), UTC)
    ):
        print(f"the flow run {name} is Crashed now: {UNHEARD}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
