"""Stages finetune@retrieval, finetune@captioning, finetune@vqa: CapFilt's last model, for one task each."""

from blip.config import Settings
from blip.stages.training import Job, run_job
from blip.stages.validation_scores import caption_scores, question_scores, retrieval_scores
from blip.tasks.inputs import MODELS
from blip.tasks.rounds import last_dataset, last_model, reading
from blip.tracking.runs import StageRun

SCORES = {"retrieval": retrieval_scores, "captioning": caption_scores, "vqa": question_scores}


def job(settings: Settings, variant: str | None) -> Job:
    """The training run of one task."""
    assert variant is not None
    task = "questions" if variant == "vqa" else "pairs"
    run = reading(getattr(settings.finetune, variant), last_dataset(settings))
    start = MODELS / last_model("pretrain_bootstrapped", settings)
    return Job(f"finetune@{variant}", run, task, start, MODELS / variant)


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Train and validate."""
    planned = job(settings, variant)
    return SCORES[str(variant)](planned.name.replace("@", "."), run_job(planned, settings, run), settings)
