"""SIGTERM to real pre-training on two ranks in a flow: it saves, ends, is tried again, and nothing shows of it."""

import csv
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import psutil
import pytest
import yaml

from blip.data.text import train_tokenizer
from blip.tracking import store
from flows.pipeline import end_to_end
from tests.flows.toy import make_project
from tests.processes import wait_until
from tests.stages.conftest import ROOT, TOY_MODEL, pictures, write

pytestmark = [pytest.mark.usefixtures("prefect_api"), pytest.mark.slow]
STEPS = 120
TRAINING = {"ranks": 2, "threads": 1, "workers": 1, "batch_size": 4, "checkpoint_every": 50, "log_every": 1}
SETTINGS = {
    **TOY_MODEL,
    "compute.threads": 1,
    "pretrain.data": ["human"],
    "pretrain.steps": STEPS,
    "pretrain.objective.queue": 16,
    **{f"pretrain.training.{name}": value for name, value in TRAINING.items()},
}
CURVE = Path("runs/pretrain/curve.csv")
STAGE, RANK = ["blip", "stage", "pretrain"], ["blip.stages.rank", "pretrain"]


def project(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy project as the current folder, with real pre-training of a toy model on a few pictures."""
    make_project(root)
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    graph["stages"]["pretrain"] |= {"cmd": "python -m blip stage pretrain", "outs": ["models/pretrain"]}
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    human = list(islice(pictures("human"), 24))
    write(root, "human", human)
    write(root, "validation", list(islice(pictures("validation"), 8)))
    texts = [caption.text for sample in human for caption in sample.captions]
    train_tokenizer(texts * 2, 300).save_vocabulary(root / "data/datasets/vocabulary")
    monkeypatch.chdir(root)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    return root


def figures() -> dict[str, float]:
    """What the stage found, but for the time it took."""
    found = json.loads(Path("metrics/pretrain.json").read_text())
    return {name: value for name, value in found.items() if name != "seconds" and ".training." not in name}


def losses() -> list[tuple[str, str]]:
    with Path("metrics/curves/pretrain.csv").open() as handle:
        return [(row["step"], row["loss"]) for row in csv.DictReader(handle)]


class Interrupted(threading.Thread):
    """Sends SIGTERM to the stage once it has trained 10 steps, and sees how long it takes until all is gone."""

    def __init__(self, root: Path) -> None:
        super().__init__(daemon=True)
        self.root, self.began, self.seconds = root, 0.0, float("inf")
        self.gone: list[psutil.Process] = []

    def run(self) -> None:
        interrupt(self.root, self.ask)
        _, alive = psutil.wait_procs(self.gone, timeout=60)
        self.seconds = float("inf") if alive else time.monotonic() - self.began

    def ask(self) -> None:
        (stage,) = at_work_as(STAGE, self.root)
        self.gone = [stage, *stage.children(recursive=True)]
        self.began = time.monotonic()
        stage.terminate()


def interrupt(root: Path, ask: Callable[[], object]) -> None:
    """Have the stage asked to stop in the middle: the ranks stand still until they have the signal."""
    wait_until(lambda: CURVE.exists() and len(CURVE.read_text().splitlines()) > 10, 180)
    ranks = at_work_as(RANK, root)
    assert ranks, "the training was over before"
    for rank in ranks:
        rank.suspend()
    ask()
    wait_until(lambda: all(map(is_asked_to_stop, ranks)), 180)
    for rank in ranks:
        rank.resume()


def is_asked_to_stop(process: psutil.Process) -> bool:
    """Whether SIGTERM waits for a process that stands still."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(status.split("ShdPnd:")[1].split()[0], 16) >> (signal.SIGTERM - 1) & 1)


def at_work_as(module: list[str], root: Path) -> list[psutil.Process]:
    """Those that run a module there, not the shell that DVC started it with, nor what ended meanwhile."""
    found = []
    for process in at_work_in(root):
        with suppress(psutil.Error):
            if process.cmdline()[1:] == ["-m", *module]:
                found.append(process)
    return found


def at_work_in(root: Path) -> list[psutil.Process]:
    """All processes but this one that have the project as their folder."""
    found = []
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] == str(root) and process.pid != os.getpid():
            found.append(process)
    return found


def test_a_stage_that_is_asked_to_stop_goes_on_in_its_run_and_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path / "undisturbed", monkeypatch)
    assert end_to_end(until="pretrain", overrides=SETTINGS, return_state=True).is_completed()
    expected = figures(), losses()

    root = project(tmp_path / "disturbed", monkeypatch)
    interrupted = Interrupted(root)
    interrupted.start()
    state = end_to_end(until="pretrain", overrides=SETTINGS, return_state=True)
    interrupted.join(10)

    assert state.is_completed(), state.message
    assert interrupted.seconds < 60, (
        "the promise of 20 s is for the checkpoint; here all its processes end, too"
    )
    assert len(interrupted.gone) >= 5, "the stage, two ranks and their workers"
    assert "resuming at step" in Path(".blip/logs/pretrain.log").read_text()
    assert (figures(), losses()) == expected
    assert at_work_in(root) == []
    client = store.client()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments, "tags.`blip.stage` = 'pretrain'")
    assert (run.info.status, run.data.tags["blip.attempt"]) == ("FINISHED", "2")
    logged = [point.step for point in client.get_metric_history(run.info.run_id, "loss")]
    assert logged == list(range(1, STEPS + 1))
