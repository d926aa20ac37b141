"""`dvc exp run -S NAME=VALUE` changes the setting named and no other, also where runs share a block of params.yaml."""

import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from blip.config import load_settings
from blip.tracking.lineage import flatten

ROOT = Path(__file__).parents[1]
RUNS = list(load_settings(ROOT / "params.yaml").runs)
SHARED = {"optimiser.momentum": 0.5, "training.accumulate": 4, "objective.label_smoothing": 0.5}


def settings(path: Path) -> dict[str, str]:
    return flatten("params", load_settings(path).model_dump(mode="json", by_alias=True))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", SHARED)
def test_one_setting_of_one_run_changes(tmp_path: Path, run: str, name: str) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    before = settings(path)
    apply_overrides(path, [f"{run}.{name}={SHARED[name]}"])
    after = settings(path)
    changed = {key: value for key, value in after.items() if before.get(key) != value}
    assert changed == {f"params.{run}.{name}": str(SHARED[name])}
