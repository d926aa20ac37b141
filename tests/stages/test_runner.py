"""A stage is run under its MLflow run; its figures are written with the seconds it took."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from mlflow import MlflowClient

from blip import stages
from blip.config import Settings, load_settings
from blip.errors import BadArguments, BlipError
from blip.stages import Stage, find_stage, run_stage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The demo's settings, in an empty folder with an MLflow store of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    return load_settings(ROOT / "params.yaml")


def stage_that_returns(
    monkeypatch: pytest.MonkeyPatch, figures: dict[str, float], keeps_metrics: bool = True
) -> None:
    """Put a stage `weigh@apples` among the stages, whose module returns these figures."""
    module = ModuleType("weigh")
    module.run = lambda settings, run, variant: {**figures, "length": float(len(variant))}
    monkeypatch.setitem(sys.modules, "weigh", module)
    monkeypatch.setitem(stages.STAGES, "weigh@apples", Stage("weigh", "apples", keeps_metrics))


def test_the_figures_are_written_and_logged(settings, monkeypatch):
    stage_that_returns(monkeypatch, {"weight": 2.5})

    figures = run_stage("weigh@apples", settings)

    written = json.loads(Path("metrics/weigh_apples.json").read_text())
    assert written == figures
    assert (written["weight"], written["length"]) == (2.5, 6.0)
    assert written["seconds"] >= 0
    runs = MlflowClient().search_runs(["1"], "tags.`blip.stage` = 'weigh@apples'")
    assert [(run.info.status, run.data.metrics["weight"]) for run in runs] == [("FINISHED", 2.5)]


def test_a_figure_that_is_no_number_is_left_out_with_a_warning(settings, monkeypatch, capsys):
    stage_that_returns(monkeypatch, {"weight": float("nan"), "height": 1.0})

    figures = run_stage("weigh@apples", settings)

    assert "weight" not in figures
    assert figures["height"] == 1.0
    assert "weight is nan and is left out" in capsys.readouterr().err


def test_a_stage_that_writes_its_own_figures_gets_no_second_file(settings, monkeypatch):
    stage_that_returns(monkeypatch, {"weight": 2.5}, keeps_metrics=False)

    run_stage("weigh@apples", settings)

    assert not Path("metrics").exists()


def test_an_unknown_stage_is_refused_before_anything_opens(settings):
    with pytest.raises(BadArguments, match=r"no stage 'finetune@nlvr3'.*the stages are: ingest, validate"):
        run_stage("finetune@nlvr3", settings)
    assert not Path("mlflow.db").exists()


def test_a_stage_without_ranks_is_done_by_no_two_tasks_of_slurm(settings, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(
        BadArguments, match=r"evaluate@retrieval has no ranks, .* 2 tasks .*--nodes=1 --ntasks=1"
    ):
        run_stage("evaluate@retrieval", settings)
    monkeypatch.setenv("SLURM_PTY_PORT", "40000")  # in the one shell that `srun --pty` leaves
    with pytest.raises(BlipError, match="models/retrieval: there is no such model"):
        run_stage("evaluate@retrieval", settings)


def test_both_pre_trainings_are_one_module():
    assert find_stage("pretrain").module == find_stage("pretrain_bootstrapped").module
    assert find_stage("pretrain_bootstrapped").variant == "bootstrapped"


def test_torch_is_loaded_after_the_stage_says_how_its_threads_wait() -> None:
    """OpenMP reads that once; without it two threads took five times as long beside another busy process."""
    code = "import sys, blip.cli, blip.stages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
