"""Starts the stages in the order of the graph, some side by side, and collects how each ended."""

import time
from collections.abc import Iterable, Sequence
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterId
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.logging import get_run_logger

from flows.graph import parents
from flows.stage import run_stage, stop_all_stages

Future = PrefectFuture[State]


def run_in_order(
    names: Sequence[str], stale: Iterable[str], parallel: int, alone: frozenset[str] = frozenset()
) -> dict[str, State]:
    """Run each stage once those it waits for have succeeded, at most `parallel` at a time.

    A stage that fails holds up what depends on it and nothing else.

    Args:
        names: the stages, each after those it waits for.
        stale: those that have to be run; the others are up to date.
        parallel: how many may run at once.
        alone: of these one at a time: each takes the same GPUs or nodes.

    Returns:
        The final state of every stage that was started.
    """
    outdated = frozenset(stale)
    started: dict[str, Future] = {}
    running: dict[str, Future] = {}
    ended: dict[str, State] = {}
    try:
        while True:
            ready = [name for name in names if name not in started and _may_start(name, names, ended)]
            for name in chosen(ready, running, parallel, alone):
                waits_for = [started[parent] for parent in parents(name, names)]
                up_to_date = name not in outdated
                future = run_stage.submit(name, up_to_date, wait_for=waits_for, return_state=False)
                started[name] = running[name] = future
            if not running:
                break
            finished = next(as_completed(list(running.values())))
            finished.wait()  # its state is only final once it has been waited for
            name = next(name for name, future in running.items() if future is finished)
            ended[name] = running.pop(name).state
    except BaseException:
        get_run_logger().warning("ending the running stages: %s", ", ".join(running) or "none")
        stop_all_stages()
        for future in running.values():
            future.wait()
        raise
    wait_until_recorded([future.task_run_id for future in started.values()])
    return ended


def chosen(ready: Sequence[str], running: Iterable[str], parallel: int, alone: frozenset[str]) -> list[str]:
    """Those of the `ready` stages to start beside the `running` ones, the first ones first."""
    at_work, started = set(running), []
    for name in ready:
        if len(at_work) < parallel and not (name in alone and at_work & alone):
            started.append(name)
            at_work.add(name)
    return started


def wait_until_recorded(tasks: list[UUID], patience: float = 60.0) -> None:
    """Let the server write the last states of the tasks, which reach it as events, before the flow ends.

    What is late after `patience` seconds is warned of: the stages are done, and the page alone shows them otherwise.
    """
    wanted = TaskRunFilter(id=TaskRunFilterId(any_=tasks))
    deadline, final = time.monotonic() + patience, 0
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            recorded = client.read_task_runs(task_run_filter=wanted)
            final = sum(task.state is not None and task.state.is_final() for task in recorded)
            if final == len(tasks):
                return
            time.sleep(0.1)
    get_run_logger().warning(
        "the Prefect server has the last state of %d of %d stages after %.0f s: its page may show the others as "
        "running, though they have ended", final, len(tasks), patience,
    )  # fmt: skip


def _may_start(name: str, names: Sequence[str], ended: dict[str, State]) -> bool:
    return all(one in ended and ended[one].is_completed() for one in parents(name, names))
