"""Stage filter: the pre-trained model, fine-tuned to tell matching texts, on the human pairs (paper, section 3.3).

Beyond the paper, texts of the web pool drawn at random are shown as such that match no picture (`distractors`), for
what the web writes, file names and advertisements, stands in no human caption.
"""

from pathlib import Path

from blip.config import Settings
from blip.stages.training import Job, run_job
from blip.stages.validation_scores import match_scores
from blip.tracking.runs import StageRun


def job(settings: Settings, variant: str | None) -> Job:
    """Its training run."""
    return Job("filter", settings.filter, "pairs", Path("models/pretrain"), Path("models/filter"))


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Train and validate."""
    return match_scores("filter", run_job(job(settings, variant), settings, run), settings)
