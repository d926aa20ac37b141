"""CPU, memory, disk, network and GPU of every node, sampled into a run by a thread of MLflow's.

    with system_metrics(run_id):                 # system/cpu_utilization_percentage, ...
    with node_metrics(run_id):                   # in a rank: system/node1/cpu_utilization_percentage, ...

The stage's own process samples the machine it runs on. Where the ranks are on several nodes, the first of each samples
its node; but into a SQLite file that of node 0 alone, for two machines that write one file at once may spoil it.
MLflow's thread ends for good when the store does not answer once; another one is started when it does again.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import psutil

from blip.credentials import shown
from blip.errors import BlipError
from blip.tracking import store
from blip.training.launch import ranks

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

SAMPLING_SECONDS = 5  # MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL overrides it
AT_FIRST, LATER = 1, 12  # samples that are averaged to a point: of a run of weeks a point a minute is enough,
FIRST_SECONDS = 3600.0  # for with 8 GPUs one every 5 s are 280 MB a day in a store
LAST_SECONDS = 10.0  # that the thread has for its last points
NODE = (  # number of the node and of all nodes, as launchers tell their ranks; of ours, each GPU's process may be one
    ("CROSS_RANK", "CROSS_SIZE"),  # DeepSpeed
    ("SLURM_NODEID", "SLURM_NNODES"),
    ("GROUP_RANK", "GROUP_WORLD_SIZE"),  # torchrun
    (ranks.NODE, ranks.NODES),
)
# What the first rank of a node is told
FIRST = ((ranks.FIRST, "1"), ("SLURM_LOCALID", "0"), ("LOCAL_RANK", "0"))


OF_NODE_0 = (
    "only node 0 is sampled: MLflow's store is a SQLite file, which one machine alone may write. Start an MLflow "
    "server and name it in MLFLOW_TRACKING_URI on every node"
)


@contextmanager
def system_metrics(run_id: str, node: str | None = None) -> Iterator[None]:
    """Sample this machine until the block ends; under ``system/NODE/`` where a node is named."""
    psutil.cpu_percent()  # the first call only starts its clock
    over = threading.Event()
    thread = threading.Thread(target=_sample, args=(run_id, node, over), name="system metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(LAST_SECONDS)


def _sample(run_id: str, node: str | None, over: threading.Event) -> None:
    """One of MLflow's monitors after the other: while a store is down there is none."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    began = time.monotonic()
    while not over.is_set():
        if not _runs(run_id):
            over.wait(SAMPLING_SECONDS * LATER)
            continue
        left = FIRST_SECONDS - (time.monotonic() - began)
        monitor = SystemMetricsMonitor(
            run_id,
            sampling_interval=SAMPLING_SECONDS,
            samples_before_logging=AT_FIRST if left > 0 else LATER,
            resume_logging=True,
            node_id=node,
            tracking_uri=store.tracking_uri(),
        )
        monitor.start()
        until = time.monotonic() + left if left > 0 else float("inf")
        while not over.wait(1.0) and _samples(monitor) and time.monotonic() < until:
            pass
        monitor.finish()


def _runs(run_id: str) -> bool:
    """Whether the store answers, and says that the run goes on; without an answer a monitor counts from 0 again."""
    from mlflow.exceptions import MlflowException

    try:
        return store.client().get_run(run_id).info.status == "RUNNING"
    except (MlflowException, BlipError, OSError):
        return False


def _samples(monitor: "SystemMetricsMonitor") -> bool:
    """Whether its thread has not ended, which nothing but the thread says."""
    return monitor._process is not None and monitor._process.is_alive()


@contextmanager
def node_metrics(run_id: str) -> Iterator[None]:
    """In a rank: sample its node if it is the first there and not all alone; a store out of reach is no error."""
    node = node_to_sample(os.environ)
    if node is None or not run_id:
        yield
        return
    if node and _one_machine_writes():
        if node == 1:  # it speaks for all others
            print(f"warning: {OF_NODE_0}", file=sys.stderr, flush=True)
        yield
        return
    try:
        store.client()
        sampled = system_metrics(run_id, f"node{node}")
    except BlipError as error:
        print(f"warning: node {node} is not sampled: {shown(str(error))}"[:300], file=sys.stderr)
        sampled = nullcontext()
    with sampled:
        yield


def _one_machine_writes() -> bool:
    return store.tracking_uri().startswith("sqlite:")


def node_to_sample(environment: Mapping[str, str]) -> int | None:
    """The number of the node that a rank with this environment has to sample; None if another does, or it is alone."""
    told = next(((name, first) for name, first in FIRST if name in environment), None)
    if told and environment[told[0]] != told[1]:
        return None
    for number, count in NODE:
        if number in environment:
            return int(environment[number]) if int(environment.get(count, "1")) > 1 else None
    return None
