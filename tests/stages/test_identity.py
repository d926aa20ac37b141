"""What another life of a training run may have otherwise, and what makes it another run."""

from typing import Any

import pytest

from blip.config import load_settings
from blip.stages.training import identity_of
from tests.stages.conftest import ROOT

TRAINING = "pretrain.training"


def identity(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> dict[str, Any]:
    monkeypatch.setattr("blip.stages.training.DATASETS", ROOT / "nowhere")
    monkeypatch.setattr(
        "blip.stages.training.PairsDataset.open", lambda path: type("D", (), {"digest": path.name})
    )
    settings = load_settings(ROOT / "params.yaml", overrides=changes)
    return identity_of(settings.pretrain, settings)


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
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    assert identity(monkeypatch, changes) == identity(monkeypatch, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"pretrain.optimiser.lr": 1e-5},
        {"compute.dtype": "bfloat16"},
        {f"{TRAINING}.batch_size": 8},
        {"seed": 9},
    ],
)
def test_what_changes_the_weights_makes_another_run(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    assert identity(monkeypatch, changes) != identity(monkeypatch, {})
