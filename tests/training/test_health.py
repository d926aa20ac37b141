"""A run that learns nothing says so once, with what to try."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from blip.config import Run
from blip.data.loader import Batch
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.stages.training import Job, warnings_of
from blip.training.health import Health, Warning, note_sign, prior_entropy, said_in
from blip.training.loop import WARNINGS, pairs_compared, train
from tests import tiny
from tests.training.tiny_run import SETTINGS, plan, write_dataset

PAIRS, QUEUE = 8, 24
GOOD = {"itc": 1.0, "itm": 0.3, "lm": 2.0, "temperature": 0.07}


def objective() -> PairObjective:
    torch.manual_seed(0)
    tokens = tiny.tokenizer().special_tokens
    made = PairObjective(tiny.network(), ObjectiveConfig(queue=QUEUE), tokens)
    assert made.queue is not None
    made.queue.group.copy_(torch.arange(QUEUE)[:, None].expand(-1, 2))
    return made


def said(made: PairObjective, times: int = 3, **figures: float) -> list[str]:
    return said_by(Health(made, steps=10, pairs=PAIRS), times, **figures)


def said_by(health: Health, times: int = 3, **figures: float) -> list[str]:
    found = [health.examine(step, GOOD | figures) for step in range(10, 10 + times)]
    return [sign.name for signs in found for sign in signs]


def test_the_prior_of_itm_is_the_one_that_users_know() -> None:
    assert prior_entropy() == pytest.approx(0.6365, abs=5e-5)


def test_a_run_that_learns_says_nothing() -> None:
    assert said(objective()) == []


@pytest.mark.parametrize(
    ("figures", "name"),
    [
        ({"itm": 0.636}, "itm_at_prior"),
        ({"itc": math.log(PAIRS + QUEUE) - 0.01}, "itc_uniform"),
        ({"lm": 9.0}, "lm_uniform"),
        ({"temperature": 0.001}, "temperature_at_its_bound"),
        ({"temperature": 0.5}, "temperature_at_its_bound"),
    ],
)
def test_each_sign_is_said_once_and_only_if_it_lasts(figures: dict[str, float], name: str) -> None:
    assert said(objective(), times=2, **figures) == []
    assert said(objective(), times=9, **figures) == [name]


def test_itc_of_cached_features_has_the_keys_of_all_batches_of_a_step() -> None:
    training = {"batch_size": PAIRS, "accumulate": 4}
    assert pairs_compared(run_of(training)) == PAIRS
    cached = pairs_compared(run_of(training | {"accumulate_features": True}))
    learns = math.log(PAIRS + QUEUE) + 0.1
    assert said_by(Health(objective(), 10, PAIRS), itc=learns) == ["itc_uniform"]
    assert said_by(Health(objective(), 10, cached), itc=learns) == []


def run_of(training: dict[str, Any]) -> Run:
    run = SETTINGS.pretrain
    return run.model_copy(update={"training": run.training.model_copy(update=training)})


def test_an_image_has_the_distractors_as_keys_too() -> None:
    alike = (math.log(PAIRS + QUEUE) + math.log(2 * PAIRS + QUEUE)) / 2
    for itc, names in ((alike - 0.01, ["itc_uniform"]), (alike - 0.06, [])):
        assert said_by(Health(objective(), 10, PAIRS, distractors=PAIRS), itc=itc) == names
        assert said_by(Health(objective(), 10, PAIRS), itc=itc) == ["itc_uniform"]


def test_what_was_said_before_the_run_was_ended_is_not_said_again() -> None:
    health = Health(objective(), steps=10, pairs=PAIRS, said=["itm_at_prior"])
    assert not any(health.examine(step, GOOD | {"itm": 0.7}) for step in range(10, 20))


def test_features_that_are_all_alike_are_found_in_the_queue() -> None:
    made = objective()
    assert made.queue is not None
    one = torch.randn(1, made.queue.image.shape[1])
    made.queue.image.copy_(F.normalize(one + 0.05 * torch.randn_like(made.queue.image), dim=-1))
    assert said(made) == ["image_features_collapsed"]


@pytest.mark.parametrize(("steps", "first"), [(4000, 800), (1000, 200), (500, 200), (100, 50)])
def test_nothing_is_said_of_the_first_steps(steps: int, first: int) -> None:
    health = Health(objective(), steps=steps, pairs=PAIRS)
    assert not any(health.examine(step, GOOD | {"itm": 0.7}) for step in range(first))
    signs = [health.examine(step, GOOD | {"itm": 0.7}) for step in range(first, first + 3)]
    assert [[sign.name for sign in found] for found in signs] == [[], [], ["itm_at_prior"]]


@pytest.mark.parametrize(
    ("figure", "worth", "near"),
    [
        ("itm", prior_entropy(), 0.005),
        ("itc", math.log(PAIRS + QUEUE), 0.05),
        ("lm", math.log(tiny.network().config.text.vocabulary), 0.1),
    ],
)
def test_a_loss_a_little_better_than_nothing_learnt_is_a_sign_and_a_better_one_is_none(
    figure: str, worth: float, near: float
) -> None:
    assert len(said(objective(), 3, **{figure: worth - 0.9 * near})) == 1
    assert said(objective(), 3, **{figure: worth - 1.1 * near}) == []


def test_a_queue_that_does_not_count_yet_gives_no_keys() -> None:
    made = objective()
    made.config = replace(made.config, queue_from=0.5)
    of_the_batch, of_both = math.log(PAIRS), math.log(PAIRS + QUEUE)
    for progress, names in ((0.4, ["itc_uniform"]), (0.5, [])):
        made.progress = progress
        assert said(made, itc=of_the_batch) == names
    assert said(made, itc=of_both) == ["itc_uniform"]


def test_training_on_one_picture_for_all_captions_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "data")
    planned = plan(24)

    def all_alike(batch: Batch) -> Any:
        pairs = planned.collate(batch)
        return replace(pairs, images=torch.full_like(pairs.images, 128))

    train(replace(planned, collate=all_alike))
    lines = (tmp_path / "runs/tiny" / WARNINGS).read_text().splitlines()
    names = {json.loads(line)["name"] for line in lines}
    assert {"itm_at_prior", "image_features_collapsed"} <= names
    assert said_in(tmp_path / "runs/tiny" / WARNINGS).keys() == names


def test_a_line_that_a_full_disk_cut_short_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = Job("pretrain", SETTINGS.pretrain, "pairs", None, tmp_path)
    assert warnings_of(job) == {}
    file = tmp_path / "runs/pretrain" / WARNINGS
    file.parent.mkdir(parents=True)
    file.write_text('{"step": 9, "name": "itm_at_prior", "text": "ITM is 0.6365"}\n{"step": 12, "na')
    assert said_in(file) == {"itm_at_prior": "ITM is 0.6365"}
    assert warnings_of(job) == {"warning.itm_at_prior": "ITM is 0.6365"}
    note_sign(file, 20, Warning("nan", "the loss is none"))
    note_sign(file, 30, Warning("spike", "the loss shot up"))
    assert said_in(file).keys() == {"itm_at_prior", "nan", "spike"}
