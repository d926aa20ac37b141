"""Stage captioner: the pre-trained model, fine-tuned to write captions, on the human pairs (paper, section 3.3)."""

from blip.config import Settings
from blip.config.places import MODELS
from blip.stages.choosing import train_best
from blip.stages.scores.captioning import SCORE
from blip.stages.training import Job
from blip.tracking.runs import StageRun


def job(settings: Settings, variant: str | None) -> Job:
    """Its training run."""
    return Job("captioner", settings.captioner, "pairs", MODELS / "pretrain", MODELS / "captioner")


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Train and validate."""
    model = train_best(job(settings, variant), settings, run, SCORE)
    return run.note(SCORE.measure("captioner", model, settings))
