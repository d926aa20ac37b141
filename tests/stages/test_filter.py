"""The members of the filter: each trained once with a seed of its own, and put in their place together."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.config import Run, Settings, load_settings
from blip.config.places import CURVES, VALIDATED
from blip.stages import filter
from blip.stages.filter import hand_over, train_members
from blip.stages.training import Job
from blip.tracking.measured import Measured, Scores
from blip.tracking.runs import StageRun
from tests import tiny

from .conftest import ROOT, pictures, write

THREE = {"filter.members": 3}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of three members, in a project that has what they are trained on."""
    for name in ("human", "web"):
        write(tmp_path, name, [next(pictures(name))])
    monkeypatch.chdir(tmp_path)
    tiny.save(Path("models/pretrain"), 0)
    return load_settings(ROOT / "params.yaml", overrides=THREE)


class Trainer:
    """Saves a model for each job instead of training it, and is ended before the job `ended_at`."""

    def __init__(self, ended_at: str = "") -> None:
        self.ended_at = ended_at
        self.seeds: dict[str, int] = {}
        self.runs: dict[str, Run] = {}

    def __call__(self, job: Job, settings: Settings, run: StageRun) -> Path:
        if job.name == self.ended_at:
            raise KeyboardInterrupt
        self.seeds[job.name], self.runs[job.name] = settings.seed, job.run
        CURVES.mkdir(parents=True, exist_ok=True)
        (CURVES / f"{job.name}.csv").write_text(f"step,loss\n1,{settings.seed}\n")
        run.figures[f"{job.name}.training.steps"] = settings.seed
        return tiny.save(job.target, settings.seed)


class Noted(StageRun):
    """A stage's run without MLflow behind it."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.measured: dict[str, Measured] = {}
        self.curves: dict[str, str] = {}

    def log_curve(self, path: Path, prefix: str = "") -> None:
        self.curves[prefix] = path.read_text()


def train(settings: Settings, trainer: Trainer) -> Noted:
    job = Job("filter", settings.filter.of_member, "pairs", Path("models/pretrain"), Path("models/filter"))
    run = Noted()
    hand_over(train_members(job, settings, run, trainer), job.target)
    return run


def test_every_member_has_a_seed_of_its_own(settings: Settings) -> None:
    trainer = Trainer()
    train(settings, trainer)
    seed = settings.seed
    assert trainer.seeds == {"filter": seed, "filter-2": seed + 1, "filter-3": seed + 2}
    saved = sorted(str(path.parent) for path in Path("models/filter").rglob("model.safetensors"))
    assert saved == ["models/filter", "models/filter/members/2", "models/filter/members/3"]
    assert sorted(path.name for path in Path("models").iterdir()) == ["filter", "pretrain"]


def test_members_that_are_trained_are_not_trained_again(settings: Settings) -> None:
    first, second = Trainer(ended_at="filter-3"), Trainer()
    with pytest.raises(KeyboardInterrupt):
        train(settings, first)
    assert not Path("models/filter").exists(), "what is there would be taken for all of it"
    train(settings, second)
    assert [*first.seeds, *second.seeds] == ["filter", "filter-2", "filter-3"]


def test_members_of_other_settings_are_trained_anew(settings: Settings) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(settings, Trainer(ended_at="filter-2"))
    longer = load_settings(ROOT / "params.yaml", overrides={"filter.members": 3, "filter.steps": 7})
    trainer = Trainer()
    train(longer, trainer)
    assert list(trainer.seeds) == ["filter", "filter-2", "filter-3"]


def test_members_of_an_earlier_version_are_not_trained_again_where_what_is_new_is_not_set(
    settings: Settings,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(settings, Trainer(ended_at="filter-2"))
    file = Path("models/.filter.partial/plan.json")
    plan = json.loads(file.read_text())
    del plan["run"]["objective"]["lm_mean"]
    file.write_text(json.dumps(plan))
    again = Trainer()
    train(settings, again)
    assert list(again.seeds) == ["filter-2", "filter-3"]


def test_members_are_trained_anew_without_what_validation_has_left_out_since(settings: Settings) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(settings, Trainer(ended_at="filter-3"))
    VALIDATED.mkdir()
    pq.write_table(pa.table({"key": ["a"]}), VALIDATED / "human.parquet")
    again = Trainer()
    train(settings, again)
    assert list(again.seeds) == ["filter", "filter-2", "filter-3"]


def test_curves_and_figures_of_members_that_are_trained_come_back(settings: Settings) -> None:
    """DVC removes them before the next try, and would miss them after it."""
    with pytest.raises(KeyboardInterrupt):
        train(settings, Trainer(ended_at="filter-3"))
    shutil.rmtree("metrics")
    run = train(settings, Trainer())
    seeds = {"filter": settings.seed, "filter-2": settings.seed + 1, "filter-3": settings.seed + 2}
    curves = {name: f"step,loss\n1,{seed}\n" for name, seed in seeds.items()}
    assert {path.stem: path.read_text() for path in CURVES.iterdir()} == curves
    assert run.curves == {"": curves["filter"], "member2.": curves["filter-2"]}
    assert run.figures == {f"{name}.training.steps": seed for name, seed in seeds.items()}
    assert sorted(path.name for path in Path("models/filter/members").iterdir()) == ["2", "3"]


def test_a_model_without_its_figures_is_trained_to_its_end_again(settings: Settings) -> None:
    """Ended between the two: its checkpoint of the last step is there still, so that costs little."""
    with pytest.raises(KeyboardInterrupt):
        train(settings, Trainer(ended_at="filter-2"))
    Path("models/.filter.partial/1.json").unlink()
    trainer = Trainer()
    train(settings, trainer)
    assert list(trainer.seeds) == ["filter", "filter-2", "filter-3"]


def test_what_is_trained_stays_until_it_is_validated(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    trainer = Trainer()
    monkeypatch.setattr(filter.train_members, "__defaults__", (trainer,))
    with monkeypatch.context() as patched:
        patched.setattr(filter, "SCORE", replace(filter.SCORE, measure=ended))
        with pytest.raises(KeyboardInterrupt):
            filter.run(settings, Noted(), None)
    assert not Path("models/filter").exists()
    judged = replace(filter.SCORE, measure=lambda *_: Scores({"filter.validation_auc": 1.0}, {}))
    monkeypatch.setattr(filter, "SCORE", judged)
    trainer.seeds.clear()
    assert filter.run(settings, Noted(), None) == {"filter.validation_auc": 1.0}
    assert trainer.seeds == {} and Path("models/filter/members/3").is_dir()
