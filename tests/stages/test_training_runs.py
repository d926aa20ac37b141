"""A training stage that is killed goes on in its MLflow run, where every step stands once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from blip.config.places import VOCABULARY
from blip.data.text import Tokenizer
from blip.tracking import store
from tests.stages.captioner_run import STEPS, make_project
from tests.stages.conftest import ROOT

CURVES = ("loss", "lm", "lr", "pairs_per_second", "mfu", "data_wait", "memory_gb", "grad_norm", "param_norm")

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def start(folder: Path, ranks: int, *kill_at: int) -> "subprocess.Popen[str]":
    mine = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "TORCHDYNAMO_DISABLE": "1",
        "DS_ACCELERATOR": "cpu",
    }
    command = [sys.executable, "-m", "tests.stages.captioner_run", folder, ranks, *kill_at]
    return subprocess.Popen(
        list(map(str, command)),
        env=os.environ | mine,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finished(folder: Path, ranks: int) -> str:
    """What the stage says, run to its end."""
    process = start(folder, ranks)
    said, wrong = process.communicate(timeout=300)
    assert process.returncode == 0, wrong
    return said


def the_run() -> Any:
    """The stage's run, and no other."""
    client = store.client()
    experiment = client.get_experiment_by_name("blip")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`blip.stage` = 'captioner'")
    assert len(found) == 1
    return found[0]


def steps(run_id: str, name: str) -> list[int]:
    return [point.step for point in store.client().get_metric_history(run_id, name)]


def wait_for_steps(folder: Path, process: "subprocess.Popen[str]", count: int) -> None:
    curve, deadline = folder / "runs/captioner/curve.csv", time.monotonic() + 120
    while not (curve.is_file() and len(curve.read_text().splitlines()) > count):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)


def check(folder: Path, ranks: int) -> None:
    """One finished run in which every step stands once, and figures of the training beside those of the model."""
    run = the_run()
    assert (run.info.status, run.data.tags["blip.attempt"]) == ("FINISHED", "2")
    for name in CURVES:
        assert steps(run.info.run_id, name) == list(range(1, STEPS + 1)), name
    figures = json.loads((folder / "metrics/captioner.json").read_text())
    assert figures["captioner.training.ranks"] == ranks
    assert figures["captioner.training.steps"] == STEPS
    for name in ("pairs_per_second", "mfu", "memory_gb", "seconds"):
        assert figures[f"captioner.training.{name}"] > 0, name
        assert run.data.metrics[f"captioner.training.{name}"] == figures[f"captioner.training.{name}"]
    assert 0 <= figures["captioner.training.data_wait"] < 1
    assert "captioner.validation.exact_match" in figures


def test_steps_that_were_not_sent_before_kill_9_are_sent_by_the_next_attempt(folder: Path) -> None:
    killed = start(folder, 1, 8)
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert len(steps(the_run().info.run_id, "loss")) < 7
    assert "resuming at step 6" in finished(folder, 1)
    check(folder, 1)


def test_a_stage_that_is_killed_in_its_validation_trains_no_step_again(folder: Path) -> None:
    killed = start(folder, 1, STEPS + 1)
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    model = folder / "models/captioner/model.safetensors"
    trained = model.read_bytes()
    shutil.rmtree(model.parent)  # as DVC does before it starts a stage
    said = finished(folder, 1)
    assert f"resuming at step {STEPS}" in said
    assert f"step {STEPS}/{STEPS}" not in said
    assert model.read_bytes() == trained
    assert not (folder / "runs/captioner").exists()
    check(folder, 1)


def test_ranks_that_are_killed_leave_one_run_with_every_step_once(folder: Path) -> None:
    process = start(folder, 2)
    wait_for_steps(folder, process, 5)
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in family:
        one.kill()
    process.communicate(timeout=60)
    psutil.wait_procs(family, timeout=20)
    assert "resuming at step" in finished(folder, 2)
    check(folder, 2)


def test_a_start_that_is_refused_leaves_the_run_of_the_first_to_go_on(folder: Path) -> None:
    first = start(folder, 1)
    wait_for_steps(folder, first, 4)
    first.send_signal(signal.SIGSTOP)
    second = start(folder, 1)
    _, said = second.communicate(timeout=120)
    assert second.returncode != 0 and f"another process (pid {first.pid} on " in said
    first.kill()
    first.communicate(timeout=60)
    assert "resuming at step" in finished(folder, 1)
    check(folder, 1)


NEW_MODEL = """
from pathlib import Path
from blip.config import load_settings
from blip.stages.training import Job, train_here
from tests.stages.conftest import ROOT, TOY_MODEL

training = {"batch_size": 4, "checkpoint_every": 2}
changes = {"pretrain.steps": 4, "pretrain.data": ["human"], "pretrain.training": training}
settings = load_settings(ROOT / "params.yaml", overrides=TOY_MODEL | changes)
train_here(Job("pretrain", settings.pretrain, "pairs", None, Path("models/new")), settings)
"""


def test_a_new_model_goes_on_with_the_vocabulary_alone_that_it_began_with(folder: Path) -> None:
    mine = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu"}

    def trained() -> tuple[str, str]:
        command = [sys.executable, "-c", NEW_MODEL]
        done = subprocess.run(command, env=os.environ | mine, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    tokenizer = Tokenizer.from_directory("models/pretrain")
    tokenizer.save_vocabulary(VOCABULARY)
    trained()
    Tokenizer(tokenizer.vocabulary, keeps_accents=True).save_vocabulary(VOCABULARY)
    said, warned = trained()
    assert "resuming" not in said and "settings or data (vocabulary was " in warned

    shutil.rmtree(VOCABULARY)
    tokenizer.save_vocabulary(VOCABULARY)
    said, _ = trained()
    assert "resuming at step 4" in said
