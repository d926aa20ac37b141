"""The members of the filter: each trained once with a seed of its own, and put in their place together."""

from pathlib import Path

import pytest

from blip.config import Run, Settings, load_settings
from blip.model.api import Blip
from blip.stages.filter import train_members
from blip.stages.training import Job
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

    def __call__(self, job: Job, settings: Settings) -> Blip:
        if job.name == self.ended_at:
            raise KeyboardInterrupt
        self.seeds[job.name], self.runs[job.name] = settings.seed, job.run
        return Blip.open(tiny.save(job.target, settings.seed))


def train(settings: Settings, trainer: Trainer) -> Blip:
    job = Job("filter", settings.filter.of_member, "pairs", Path("models/pretrain"), Path("models/filter"))
    return train_members(job, settings, trainer)


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
