"""blip stage evaluate@TASK: one task on held-out data.

Reads models/* and data/datasets/*; writes reports/evaluate/TASK (examples.json, images/, predictions.csv) and
metrics/evaluate_TASK.json.
"""

from collections.abc import Callable, Sequence
from functools import partial

from blip.atomic import atomic_path
from blip.config import Settings
from blip.config.places import EVALUATED
from blip.errors import BadArguments
from blip.model.device import device_of
from blip.model.dialogs import answer_ranker
from blip.model.two_images import TwoImages
from blip.tasks import captioning, classification, nlvr, retrieval, video, visdial, vqa
from blip.tasks.inputs import model_directory, open_model, read_labels, read_samples
from blip.tasks.outcome import Outcome, write_outcome
from blip.tracking.measured import Scores, measured
from blip.tracking.runs import StageRun

ZERO_SHOT = ("classification", "video")  # what the model for retrieval does besides


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Evaluate the task that `variant` names and return its metrics.

    Raises:
        BadArguments: there is no such task, or no settings for it. BlipError: the model or the data is not there.
    """
    if variant not in TASKS:
        raise BadArguments(f"evaluate@{variant}: no such task; there are: {', '.join(TASKS)}")
    if getattr(settings.evaluate, variant) is None:
        raise BadArguments(
            f"evaluate@{variant}: the settings have no evaluate.{variant}; choose a recipe that has it (--recipe)"
        )
    outcome = TASKS[variant](settings)
    task = getattr(settings.evaluate, variant)
    model = "retrieval" if variant in ZERO_SHOT else variant
    how = measured([model_directory(model)], task.data, settings, f"evaluate.{variant}")
    folder = EVALUATED / variant
    with atomic_path(folder) as temporary:
        write_outcome(temporary, variant, outcome, read_samples(task.data))
    run.log_artifact(folder / "examples.json")
    run.log_artifact(folder / "predictions.csv")
    return run.note(Scores.of(outcome.metrics, how))


def _retrieval(settings: Settings) -> Outcome:
    task, model = settings.evaluate.retrieval, open_model("retrieval", settings.compute)
    return retrieval.evaluate(
        model,
        read_samples(task.data),
        batch_size=settings.evaluate.batch_size,
        rerank_size=task.rerank,
        rerank_by=task.rerank_by,
        seed=settings.seed,
    )


def _captioning(settings: Settings) -> Outcome:
    task, model = settings.evaluate.captioning, open_model("captioning", settings.compute)
    caption: Callable[[Sequence[bytes]], list[str]] = partial(model.caption, **task.decoding)
    batch_size = settings.evaluate.batch_size
    return captioning.evaluate(caption, read_samples(task.data), batch_size=batch_size, seed=settings.seed)


def _vqa(settings: Settings) -> Outcome:
    task, model = settings.evaluate.vqa, open_model("vqa", settings.compute)
    return vqa.evaluate(
        model,
        read_samples(task.data),
        vqa.QuestionOnly.count(read_samples(task.train)),
        keep=task.candidates,
        batch_size=settings.evaluate.batch_size,
        seed=settings.seed,
    )


def _classification(settings: Settings) -> Outcome:
    task, model = settings.evaluate.classification, open_model("retrieval", settings.compute)
    return classification.evaluate(
        model,
        read_samples(task.data),
        read_labels(task.data),
        templates=task.templates,
        temperature=model.temperature,
        batch_size=settings.evaluate.batch_size,
        seed=settings.seed,
    )


def _video(settings: Settings) -> Outcome:
    task, model = settings.evaluate.video, open_model("retrieval", settings.compute)
    return video.evaluate(
        model,
        read_samples(task.data),
        frame_count=task.frames,
        batch_size=settings.evaluate.batch_size,
        rerank_size=task.rerank,
        rerank_by=task.rerank_by,
        seed=settings.seed,
    )


def _nlvr(settings: Settings) -> Outcome:
    task = settings.evaluate.nlvr
    assert task is not None
    model = TwoImages.open(model_directory("nlvr"), device_of(settings.compute.device))
    return nlvr.evaluate(
        model, read_samples(task.data), batch_size=settings.evaluate.batch_size, seed=settings.seed
    )


def _visdial(settings: Settings) -> Outcome:
    task = settings.evaluate.visdial
    assert task is not None
    rank = answer_ranker(open_model("visdial", settings.compute))
    return visdial.evaluate(
        rank, read_samples(task.data), batch_size=settings.evaluate.batch_size, seed=settings.seed
    )


TASKS: dict[str, Callable[[Settings], Outcome]] = {
    "retrieval": _retrieval,
    "captioning": _captioning,
    "vqa": _vqa,
    "classification": _classification,
    "video": _video,
    "nlvr": _nlvr,
    "visdial": _visdial,
}
