"""Of a run's candidates the one is kept that does best on the validation data."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blip.config import Settings, load_settings
from blip.errors import BadArguments
from blip.model.api import Blip
from blip.stages import choosing
from blip.stages.choosing import train_best
from blip.stages.scores import Score, captioning
from blip.stages.training import Job
from blip.tracking import store
from blip.tracking.measured import Scores
from blip.tracking.registry import weights_digest
from blip.tracking.runs import StageRun
from tests import tiny

from .captioner_run import make_project
from .conftest import ROOT, TOY_MODEL, train_apart

TRAINED = {1: 0.5, 2: 0.7, 3: 0.6}  # the figure of the model with that seed


class Noted(StageRun):
    """A stage's run without MLflow behind it."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.points: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Any, step: int | None = None, again: bool = False) -> None:
        self.points.append((step, dict(metrics)))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Of three candidates, whose training saves models of three seeds."""
    monkeypatch.chdir(tmp_path)
    settings = load_settings(ROOT / "params.yaml", overrides={"captioner.candidates": 3})

    def train(planned: Job, settings: Settings, run: StageRun) -> Path:
        folder = Path("runs") / planned.name
        for seed in (1, 2):
            tiny.save(folder / f"candidates/{100 * seed:06d}", seed)
        (folder / "summary.json").write_text(json.dumps({"steps": 300}))
        return tiny.save(planned.target, 3)

    monkeypatch.setattr(choosing, "run_job", train)
    return Job("captioner", settings.captioner, "pairs", None, Path("models/captioner"))


def choose(job: Job, figures: dict[int, float], name: str = "right") -> Noted:
    """Run `train_best` with a score that knows the models by their seeds."""
    by_digest = {weights_digest(tiny.save(Path("known") / str(seed), seed)): seed for seed in (1, 2, 3)}

    def score(prefix: str, directory: Path, settings: Settings) -> Scores:
        return Scores({f"{prefix}.validation.{name}": figures[by_digest[weights_digest(directory)]]}, {})

    right = Score(score, decides=(".validation.right",))
    run = Noted()
    assert train_best(job, load_settings(ROOT / "params.yaml"), run, right) == Path("models/captioner")
    return run


@pytest.mark.parametrize(
    ("figures", "best"),
    [
        ({1: 0.5, 2: 0.7, 3: 0.6}, 2),
        ({1: 0.5, 2: 0.7, 3: 0.7}, 3),
        ({1: 0.7, 2: 0.7, 3: 0.5}, 2),
        ({1: 9, 2: 0, 3: 0}, 1),
    ],
)
def test_the_best_is_kept_and_of_equal_ones_the_later(
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    figures: dict[int, float],
    best: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = choose(job, figures)
    assert weights_digest(job.target) == weights_digest(Path("known") / str(best))
    assert run.figures == {"captioner.training.kept_step": 100 * best}
    assert run.points == [
        (100 * seed, {"candidates.captioner.validation.right": value}) for seed, value in figures.items()
    ]
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("<- kept") for line in lines] == [seed == best for seed in (1, 2, 3)]
    assert lines[0].startswith(f"captioner  after step 100 of 300: right {figures[1]:.4f}")
    choose(job, figures)  # ended behind it, the stage begins again, and finds what it had
    assert weights_digest(job.target) == weights_digest(Path("known") / str(best))


def test_without_a_figure_to_choose_by_the_last_is_kept_and_that_is_said(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = choose(job, TRAINED, name="other")
    assert weights_digest(job.target) == weights_digest(Path("known/3"))
    assert run.figures == {"captioner.training.kept_step": 300}
    assert (
        "warning: captioner: the validation data give no right: the last model is kept"
        in capsys.readouterr().err
    )


def test_embeddings_alone_choose_where_no_head_can_rank_again(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = choose(job, TRAINED, name="itc.right")
    assert run.figures == {"captioner.training.kept_step": 200}


def test_the_stage_keeps_one_of_the_steps_it_was_validated_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    steps = (3, 6, 9)
    figures = train_apart(
        "captioner",
        TOY_MODEL
        | {"captioner.steps": 9, "captioner.candidates": 3, "validation.captioning.beams": 1}
        | {
            f"captioner.training.{name}": value
            for name, value in {"batch_size": 4, "ranks": 2, "log_every": 1}.items()
        },
    )
    run = store.client().search_runs([store.client().get_experiment_by_name("blip").experiment_id])  # pyright: ignore
    (stage,) = [one for one in run if one.data.tags.get("blip.stage") == "captioner"]

    def curve(name: str) -> dict[int, float]:
        history = store.client().get_metric_history(
            stage.info.run_id, f"candidates.captioner.validation.{name}"
        )
        return {point.step: point.value for point in history}

    both = {step: curve("cider")[step] + curve("bleu4")[step] for step in steps}
    best = max(steps, key=lambda step: (both[step], step))
    assert tuple(curve("cider")) == steps
    assert figures["captioner.training.kept_step"] == best
    assert figures["captioner.validation.cider"] == curve("cider")[best]
    assert Blip.open(Path("models/captioner")).card.task == "captioner"
    assert not Path("runs/captioner").exists()


def test_the_test_data_choose_nothing() -> None:
    both = {"finetune.retrieval.candidates": 2, "validation.retrieval.data": "test"}
    with pytest.raises(BadArguments, match=r"the best of 2 would be chosen on test, the test data"):
        load_settings(ROOT / "params.yaml", overrides=both)
    with pytest.raises(BadArguments, match=r"captioner\.candidates: the best of 2 would be chosen on test"):
        load_settings(
            ROOT / "params.yaml", overrides={"captioner.candidates": 2, "validation.captioning.data": "test"}
        )
    of_the_filter = {"filter.candidates": 3, "evaluate.retrieval.data": "validation"}
    with pytest.raises(
        BadArguments, match=r"filter\.candidates: the best of 3 would be chosen on validation"
    ):
        load_settings(ROOT / "params.yaml", overrides=of_the_filter)
    precise = {"capfilt.held_out": "test", "capfilt.threshold": {"precision": 0.9}}
    with pytest.raises(BadArguments, match=r"precision of 0\.9 would be chosen on test, the test data"):
        load_settings(ROOT / "params.yaml", overrides=precise)
    for threshold in (0.5, {"keep": 0.4}):  # what is measured on them then decides nothing
        load_settings(ROOT / "params.yaml", overrides=precise | {"capfilt.threshold": threshold})
    alone = load_settings(ROOT / "params.yaml", overrides={"finetune.retrieval.candidates": 2})
    assert alone.finetune.retrieval.candidates == 2


def test_a_run_has_a_step_for_every_candidate() -> None:
    with pytest.raises(BadArguments, match=r"candidates: 9 models of 8 steps"):
        load_settings(ROOT / "params.yaml", overrides={"captioner.steps": 8, "captioner.candidates": 9})


def test_a_job_with_one_is_trained_into_its_place(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    one = replace(job, run=job.run.model_copy(update={"candidates": 1}))
    run = Noted()
    assert train_best(one, load_settings(ROOT / "params.yaml"), run, captioning.SCORE) == one.target
    assert weights_digest(one.target) == weights_digest(tiny.save(Path("third"), 3)) and run.figures == {}
