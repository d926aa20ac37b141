"""What DVC compares of the settings: all that a stage's result depends on, and nothing that it does not.

watched(settings)      # a table for reports/watched.yaml, of which dvc.yaml names the parts that each stage reads

Left out are how a run is computed, saved and logged, where it is started, and the name of the recipe, whose values are
in the others. To change these trains nothing again.
"""

from collections.abc import Iterator
from typing import Any

from blip.config.sections import Settings
from blip.config.training import IMMATERIAL

TRAININGS = ("pretrain", "captioner", "filter", "pretrain_bootstrapped")


def watched(settings: Settings) -> dict[str, Any]:
    """The settings without those that change neither weights nor figures."""
    values = settings.model_dump(mode="json", by_alias=True, exclude={"recipe", "launch"})
    values["compute"] = {"dtype": settings.compute.dtype}
    del values["evaluate"]["batch_size"]
    for run in _runs(values):
        run["training"] = {name: value for name, value in run["training"].items() if name not in IMMATERIAL}
    return values


def _runs(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (values[name] for name in TRAININGS)
    yield from (run for run in values["finetune"].values() if run)
