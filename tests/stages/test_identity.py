"""What another life of a training run may have otherwise, and what makes it another run."""

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.config import load_settings
from blip.config.places import VALIDATED
from blip.stages.training import identity_of, unset_of
from tests.stages.conftest import ROOT, pictures, write

TRAINING = "pretrain.training"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the two datasets that pre-training takes."""
    made = tmp_path_factory.mktemp("identity")
    for name in ("human", "web"):
        write(made, name, list(islice(pictures(name), 2)))
    return made


def identity(changes: dict[str, Any]) -> dict[str, Any]:
    settings = load_settings(ROOT / "params.yaml", overrides=changes)
    return identity_of(settings.pretrain, settings)


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {f"{TRAINING}.max_skipped": 50},
        {f"{TRAINING}.spikes": {"max_rollbacks": 9}},
        {f"{TRAINING}.log_every": 7},
        {f"{TRAINING}.workers": 3},
        {f"{TRAINING}.threads": 2},
        {"compute.threads": 2},
    ],
)
def test_what_a_stopped_run_advises_and_what_a_machine_has_leave_a_run_the_same(
    changes: dict[str, Any],
) -> None:
    assert identity(changes) == identity({})


@pytest.mark.parametrize(
    "changes",
    [
        {"pretrain.optimiser.lr": 1e-5},
        {"compute.dtype": "bfloat16"},
        {f"{TRAINING}.batch_size": 8},
        {"seed": 9},
    ],
)
def test_what_changes_the_weights_makes_another_run(changes: dict[str, Any]) -> None:
    assert identity(changes) != identity({})


@pytest.mark.parametrize(("stage", "name"), [("pretrain", "human"), ("pretrain", "web"), ("filter", "web")])
def test_what_validation_leaves_out_makes_another_run(stage: str, name: str) -> None:
    """Of the web pool the filter has the distractors alone."""
    settings = load_settings(ROOT / "params.yaml", overrides={})
    run = getattr(settings, stage)
    found = [identity_of(run, settings)]
    VALIDATED.mkdir()
    for keys in (["a"], ["a", "b"]):
        pq.write_table(pa.table({"key": keys}), VALIDATED / f"{name}.parquet")
        found.append(identity_of(run, settings))
    said = pa.table({"key": ["b", "a"], "detail": ["too small", "said otherwise since"]})
    pq.write_table(said, VALIDATED / f"{name}.parquet")
    assert identity_of(run, settings) == found[2]
    shutil.rmtree(VALIDATED)
    assert found[0] == identity_of(run, settings)
    assert found[0] != found[1] != found[2]


def test_what_is_as_if_there_were_no_such_setting_is_unset(folder: Path) -> None:
    changes = {"pretrain.candidates": 2, "pretrain.objective.itm": 0.5}
    told = [
        unset_of(settings.pretrain, settings)
        for settings in (load_settings(ROOT / "params.yaml", overrides=each) for each in ({}, changes))
    ]
    assert {"run.candidates", "excluded.human", "excluded.web", "model.text_start"} <= told[0]
    assert not {"seed", "batch", "run.steps", "run.optimiser.lr", "model.image_size"} & told[0]
    assert told[0] - told[1] == {"run.candidates", "run.objective.itm"}
    VALIDATED.mkdir()
    pq.write_table(pa.table({"key": ["a"]}), VALIDATED / "web.parquet")
    settings = load_settings(ROOT / "params.yaml", overrides={})
    assert told[0] - unset_of(settings.pretrain, settings) == {"excluded.web"}
    shutil.rmtree(VALIDATED)
