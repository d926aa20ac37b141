"""Every node of a run is sampled once, under its own name."""

import threading
import time
from pathlib import Path

import pytest

from blip.config import Settings
from blip.tracking import store, system
from blip.tracking.runs import StageRun, stage_run
from blip.tracking.system import node_metrics, node_to_sample
from blip.training.launch.place import Place
from blip.training.launch.ranks import Order, _environment
from tests.processes import wait_until

TWO = {"CROSS_SIZE": "2", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("environment", "node"),
    [
        (TWO | {"CROSS_RANK": "1"}, 1),
        (TWO | {"CROSS_RANK": "1", "LOCAL_RANK": "1"}, None),
        ({"CROSS_RANK": "0", "CROSS_SIZE": "1", "LOCAL_RANK": "0"}, None),
        ({"SLURM_NODEID": "3", "SLURM_NNODES": "4", "LOCAL_RANK": "0"}, 3),
        ({"GROUP_RANK": "2", "GROUP_WORLD_SIZE": "3", "LOCAL_RANK": "0"}, 2),
        ({"SLURM_NODEID": "1", "SLURM_NNODES": "2", "SLURM_LOCALID": "0", "LOCAL_RANK": "0"}, 1),
        ({"SLURM_NODEID": "1", "SLURM_NNODES": "2", "SLURM_LOCALID": "3", "LOCAL_RANK": "0"}, None),
        ({}, None),
    ],
)
def test_the_first_rank_of_each_of_several_nodes_samples_it(
    environment: dict[str, str], node: int | None
) -> None:
    assert node_to_sample(environment) == node


@pytest.mark.parametrize(
    ("place", "slurm", "sampled"),
    [
        (Place(1, 2, hosts=("gpu01", "gpu02"), given=(2, 2)), {}, [1, None]),  # a hostfile's, a pod
        (Place(0, 1), {}, [None, None]),
        # A task a node
        (Place(1, 2), {"SLURM_NODEID": "1", "SLURM_NNODES": "2", "SLURM_LOCALID": "0"}, [1, None]),
        # One a GPU
        (Place(2, 4, before=0), {"SLURM_NODEID": "1", "SLURM_NNODES": "2", "SLURM_LOCALID": "0"}, [1]),
        (Place(3, 4, before=1), {"SLURM_NODEID": "1", "SLURM_NNODES": "2", "SLURM_LOCALID": "1"}, [None]),
    ],
)
def test_one_of_the_ranks_that_an_agent_starts_samples_each_machine(
    place: Place, slurm: dict[str, str], sampled: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # each sees one GPU, so that all have LOCAL_RANK 0
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    order = Order(1, "pretrain", (), (len(sampled),) * place.nodes, 1, 1.0, 1.0, 1.0)
    environments = [
        _environment(order, place, ("127.0.0.1", 29400), 0, number, Path()) for number in range(len(sampled))
    ]
    assert [node_to_sample(environment) for environment in environments] == sampled


def test_two_machines_do_not_write_one_sqlite_file(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "client", lambda: pytest.fail("it was opened"))
    for node in ("1", "2"):
        for name, value in (TWO | {"CROSS_RANK": node}).items():
            monkeypatch.setenv(name, value)
        with node_metrics("0123456789abcdef"):
            pass
    said = capsys.readouterr().err
    assert said.count("only node 0 is sampled") == 1 and "MLFLOW_TRACKING_URI" in said


def test_nodes_are_told_apart_in_the_run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", "1")
    memory = "system_memory_usage_percentage"
    with stage_run("pretrain", settings) as run:
        monkeypatch.setattr(system, "_one_machine_writes", lambda: False)  # here both are one machine
        for node in ("0", "1"):
            for name, value in (TWO | {"CROSS_RANK": node}).items():
                monkeypatch.setenv(name, value)
            with node_metrics(run.run_id):
                wait_until(lambda node=node: f"system/node{node}/{memory}" in metrics_of(run))
        wait_until(lambda: f"system/{memory}" in metrics_of(run))
    for prefix in ("system/", "system/node0/", "system/node1/"):
        assert 0 < metrics_of(run)[f"{prefix}{memory}"] <= 100


def test_sampling_goes_on_after_the_store_was_away_and_gets_slower_in_a_long_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = "system/cpu_utilization_percentage"
    monkeypatch.setattr(system, "SAMPLING_SECONDS", 0.1)
    monkeypatch.setattr(system, "LATER", 5)
    monkeypatch.setattr(system, "FIRST_SECONDS", 4.0)
    with stage_run("pretrain", settings) as run:
        wait_until(lambda: cpu in metrics_of(run))
        # At which MLflow's thread ends, as where nothing answers
        run.client.set_terminated(run.run_id, "FINISHED")
        wait_until(lambda: not any(t.name == "SystemMetricsMonitor" for t in threading.enumerate()))
        before = run.client.get_metric_history(run.run_id, cpu)
        run.client.update_run(run.run_id, status="RUNNING")
        wait_until(lambda: len(run.client.get_metric_history(run.run_id, cpu)) > len(before))
        time.sleep(5.0)
        early = len(run.client.get_metric_history(run.run_id, cpu))
        wait_until(lambda: len(run.client.get_metric_history(run.run_id, cpu)) >= early + 3)
        points = run.client.get_metric_history(run.run_id, cpu)
    assert [point.step for point in points] == list(range(len(points)))
    times = [point.timestamp for point in points]
    assert times[-1] - times[-2] >= 500 and times[-2] - times[-3] >= 500


def metrics_of(run: StageRun) -> dict[str, float]:
    return run.client.get_run(run.run_id).data.metrics


def test_a_node_that_cannot_reach_the_store_trains_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (TWO | {"CROSS_RANK": "1"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with node_metrics("0123456789abcdef"):
        trained = True
    assert trained
    assert "node 1 is not sampled" in capsys.readouterr().err
