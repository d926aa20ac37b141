"""How well a filter and its members together tell a picture's own text from those of others, as they are trained."""

from pathlib import Path

from blip.config import Settings
from blip.config.sections import VALIDATION
from blip.stages.scores import Score
from blip.stages.training import open_dataset
from blip.tasks import matching
from blip.tasks.inputs import open_directory
from blip.tracking.measured import Scores, measured


def measure(prefix: str, directory: Path, settings: Settings) -> Scores:
    """By their ITM heads, ROC AUC and accuracy at a probability of 0.5, and by their embeddings, ROC AUC.

    Each is of the whole picture. By the heads and views that CapFilt decides by, stage capfilt measures.

    Raises:
        BlipError: the validation data have no two pictures with different texts.
    """
    filters = [open_directory(path, settings.compute) for path in matching.with_members(directory)]
    found = matching.evaluate(filters, *open_dataset(VALIDATION))
    scores = {f"{prefix}.validation_{name}": value for name, value in found.items()}
    return Scores.of(scores, measured([directory], VALIDATION, settings))


SCORE = Score(measure, decides=(".validation_auc",))
