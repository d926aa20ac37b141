"""Flow runs whose end no server heard of, for it was gone by then: each would hold the only place in the pool for ever.

    python -m flows.lost_runs POOL SECONDS     # of the server of PREFECT_API_URL, before a moment (since the epoch)

A run of this project holds its lock from before its first stage to after its last: while that is free, none is at work.
"""

import os
import sys
from datetime import UTC, datetime

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
from flows.project import one_run_at_a_time

HOLDING = [StateType.PENDING, StateType.RUNNING]  # what the server counts against the limit of a pool
UNHEARD = "its end was not heard of: the server was gone, or its process was killed; what it has made is kept"


def end_lost_runs(api: str, pool: str, before: datetime) -> list[str]:
    """Set the runs of the pool to Crashed that hold a place and are not at work; their names.

    Args:
        api: of a server that has the runs of this project alone.
        before: those that have been in their state since then; a later one may be about to take the lock.
    """
    try:
        with one_run_at_a_time(), SyncPrefectClient(api=api) as client:
            lost = [run for run in _holding(client, pool) if run.state and run.state.timestamp < before]
            for run in lost:
                client.set_flow_run_state(run.id, Crashed(message=UNHEARD), force=True)
            return [run.name for run in lost]
    except BlipError:  # one is at work
        return []


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
