"""Stage captioner: the pre-trained model, fine-tuned to write captions, on the human pairs (paper, section 3.3)."""

from blip.config import Settings
from blip.config.places import MODELS
from blip.stages.choosing import train_best
from blip.stages.training import Job
from blip.stages.validation_scores import caption_scores
from blip.tracking.runs import StageRun


def job(settings: Settings, variant: str | None) -> Job:
    """Its training run."""
    return Job("captioner", settings.captioner, "pairs", MODELS / "pretrain", MODELS / "captioner")


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Train and validate."""
    model = train_best(job(settings, variant), settings, run, caption_scores)
    return run.note(caption_scores("captioner", model, settings))
