"""blip stage evaluate@TASK: one task on held-out data.

Reads models/* and data/datasets/*; writes reports/evaluate/TASK (examples.json, images/, predictions.csv) and
metrics/evaluate_TASK.json.
"""

from blip.config import Settings
from blip.config.places import DATASETS, EVALUATED
from blip.data.pairs import PairsDataset
from blip.errors import BadArguments
from blip.tasks.evaluation import Conditions, evaluate, find_task, write_report
from blip.tasks.inputs import labels_of, model_directory
from blip.tracking.measured import Scores, measured
from blip.tracking.runs import StageRun

ZERO_SHOT = ("classification", "video")  # what the model for retrieval does besides


def lacks_labels(settings: Settings) -> str:
    """The dataset in which classification finds no class, or "". Raises BlipError if it is not there."""
    how = settings.evaluate.classification
    return (
        "" if how is None or labels_of(PairsDataset.open(DATASETS / how.data)) else str(DATASETS / how.data)
    )


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Evaluate the task that `variant` names and return its metrics.

    Raises:
        BadArguments: there is no such task, or no settings for it. BlipError: the model or the data is not there.
    """
    name = str(variant)
    find_task(name)
    task = getattr(settings.evaluate, name)
    if task is None:
        raise BadArguments(
            f"evaluate@{name}: the settings have no evaluate.{name}; choose a recipe that has it (--recipe)"
        )
    model = model_directory("retrieval" if name in ZERO_SHOT else name)
    where = Conditions(DATASETS, settings.compute.device, settings.evaluate.batch_size, settings.seed)
    outcome = evaluate(name, model, task, where)
    how = measured([model], task.data, settings, f"evaluate.{name}")
    folder = EVALUATED / name
    write_report(folder, name, outcome, task, where)
    run.log_artifact(folder / "examples.json")
    run.log_artifact(folder / "predictions.csv")
    return run.note(Scores.of(outcome.metrics, how))
