"""Every node of a run is sampled once, under its own name."""

import time

import pytest

from blip.config import Settings
from blip.tracking.runs import stage_run
from blip.tracking.system import node_metrics, node_to_sample

TWO = {"CROSS_SIZE": "2", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("environment", "node"),
    [
        (TWO | {"CROSS_RANK": "1"}, 1),
        (TWO | {"CROSS_RANK": "1", "LOCAL_RANK": "1"}, None),
        ({"CROSS_RANK": "0", "CROSS_SIZE": "1", "LOCAL_RANK": "0"}, None),
        ({"SLURM_NODEID": "3", "SLURM_NNODES": "4", "LOCAL_RANK": "0"}, 3),
        ({"GROUP_RANK": "2", "GROUP_WORLD_SIZE": "3", "LOCAL_RANK": "0"}, 2),
        ({}, None),
    ],
)
def test_the_first_rank_of_each_of_several_nodes_samples_it(
    environment: dict[str, str], node: int | None
) -> None:
    assert node_to_sample(environment) == node


def test_nodes_are_told_apart_in_the_run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with stage_run("pretrain", settings) as run:
        for node in ("0", "1"):
            for name, value in (TWO | {"CROSS_RANK": node}).items():
                monkeypatch.setenv(name, value)
            with node_metrics(run.run_id):
                time.sleep(0.5)
    metrics = run.client.get_run(run.run_id).data.metrics
    for prefix in ("system/", "system/node0/", "system/node1/"):
        assert 0 < metrics[f"{prefix}system_memory_usage_percentage"] <= 100


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
