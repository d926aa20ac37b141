"""What a training stage hands to the ranks that it starts."""

from dataclasses import fields, replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from blip.config import Objective, load_settings
from blip.errors import BlipError
from blip.model.nlvr import pre_trained
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.stages.training import Job, Task, objective_of, published_flops, read_job, threads_of, write_job
from blip.training.launch.place import Place
from tests import tiny
from tests.stages.conftest import ROOT

OF_BATCHES = {  # the settings of an objective that say what goes into a batch
    *("positives", "captions", "caption_weights", "captions_per_image", "questions_per_image", "prompt"),
}
TOKENS = tiny.tokenizer().special_tokens


def job_of(task: Task) -> Job:
    return Job("pretrain", load_settings(ROOT / "params.yaml").pretrain, task, None, Path("models/pretrain"))


@pytest.mark.parametrize("task", get_args(Task))
def test_every_task_has_an_objective_of_its_own_and_work(task: Task) -> None:
    network = pre_trained(tiny.network()) if task == "statements" else tiny.network()
    learns = objective_of(job_of(task), network, TOKENS)
    assert isinstance(learns, PairObjective) == (task == "pairs")
    assert published_flops(job_of(task), network, load_settings(ROOT / "params.yaml").model) > 0


def test_a_task_that_nothing_knows_trains_nothing() -> None:
    wrong = replace(job_of("questions"), task="question")  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        BlipError, match="a BlipNetwork has nothing to learn the task 'question' by; the tasks are"
    ):
        objective_of(wrong, tiny.network(), TOKENS)
    with pytest.raises(BlipError, match="a NlvrNetwork has nothing to learn the task 'pairs' by"):
        objective_of(job_of("pairs"), pre_trained(tiny.network()), TOKENS)


def test_every_setting_of_an_objective_is_one_of_the_network_or_of_the_batches() -> None:
    """One that only the settings have would be taken and change nothing."""
    settings = {n: (field.annotation, field.default) for n, field in Objective.model_fields.items()}
    types = get_type_hints(ObjectiveConfig)
    own = {field.name: (types[field.name], field.default) for field in fields(ObjectiveConfig)}
    assert {name: told for name, told in settings.items() if name not in OF_BATCHES} == own


@pytest.mark.parametrize("start", [None, Path("models/rounds/2/pretrained")])
def test_a_rank_reads_the_job_that_was_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Path | None
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {"filter.data": {"human": 2.0}, "filter.training.ranks": 2, "capfilt.threshold": {"keep": 0.4}}
    settings = load_settings(ROOT / "params.yaml", overrides=changes)
    job = Job(
        "rounds.3.filter",
        settings.filter.of_member,
        "pairs",
        start,
        Path("models/filter"),
        "rounds.3.filter.",
    )
    write_job(job, settings)
    assert read_job("rounds.3.filter") == (job, settings)


@pytest.mark.parametrize(
    ("place", "threads"),
    [
        (None, 3),
        (Place(nodes=4), 12),
        (Place(nodes=5, given=(16, 8, 4, 4, 4)), 6),
        (Place(nodes=32, shared=8), 12),
    ],
)
def test_the_ranks_of_a_machine_share_the_threads_of_a_stage(place: Place | None, threads: int) -> None:
    changes = {"compute.threads": 96, "pretrain.training": {"ranks": 32, "threads": None}}
    settings = load_settings(ROOT / "params.yaml", overrides=changes)
    assert threads_of(settings.pretrain, settings, place) == threads
    own = load_settings(ROOT / "params.yaml", overrides={"pretrain.training": {"ranks": 32, "threads": 5}})
    assert threads_of(own.pretrain, own, place) == 5
