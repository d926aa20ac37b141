"""The data flow on a real Dask cluster of local workers."""

import sys
from pathlib import Path

import dask
import numpy as np
import pytest
import yaml
from PIL import Image

from blip.data.pairs import PairsDataset
from blip.inspection.verification import verify
from flows.pipeline import data


@pytest.fixture
def pictures(project: Path) -> Path:
    """Nine pictures, and a project whose stage `ingest` reads them."""
    folder = project / "pictures"
    folder.mkdir()
    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"picture {chr(97 + number)}.png")
    stages = yaml.safe_load(Path("dvc.yaml").read_text())
    command = f"{sys.executable} -m blip ingest pictures --out out/ingest --samples-per-shard 2"
    stages["stages"]["ingest"]["cmd"] = command
    Path("dvc.yaml").write_text(yaml.safe_dump(stages, sort_keys=False))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_api", "pictures")
def test_the_shards_are_made_by_the_workers_of_a_cluster():
    state = data(dask="local", return_state=True)

    assert state.is_completed(), state.message
    assert "of the Dask cluster tcp://127.0.0.1:" in Path(".blip/logs/ingest.log").read_text()
    dataset = PairsDataset.open("out/ingest")
    assert [shard.samples for shard in dataset.manifest.shards] == [2, 2, 2, 2, 1]
    assert verify(dataset) == []


@pytest.mark.usefixtures("prefect_api", "project")
def test_a_scheduler_that_does_not_answer_ends_the_flow_with_its_name():
    with dask.config.set({"distributed.comm.timeouts.connect": "2s"}):
        state = data(dask="tcp://127.0.0.1:9", return_state=True)

    assert state.is_failed()
    assert "dask tcp://127.0.0.1:9" in (state.message or "")
