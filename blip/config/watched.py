"""What DVC compares of the settings: all that a stage's result depends on, and nothing that it does not.

watched(settings)      # a table for reports/watched.yaml, of which dvc.yaml names the parts that each stage reads

Left out are how a run is computed, saved and logged, where it is started, and the name of the recipe, whose values are
in the others. To change these trains nothing again.
"""

from functools import reduce
from operator import getitem
from typing import Any

from blip.config.sections import Settings
from blip.config.training import IMMATERIAL

CAPFILT_IMMATERIAL = frozenset(("ranks", "max_bad_fraction"))
"""Of `CapFilt`: who does the work, and what is refused."""


def watched(settings: Settings) -> dict[str, Any]:
    """The settings without those that change neither weights nor figures."""
    values = settings.model_dump(mode="json", by_alias=True, exclude={"recipe", "launch"})
    values["compute"] = {"dtype": settings.compute.dtype}
    del values["evaluate"]["batch_size"]
    values["capfilt"] = {k: v for k, v in values["capfilt"].items() if k not in CAPFILT_IMMATERIAL}
    for name in settings.runs:
        run: Any = reduce(getitem, name.split("."), values)
        run["training"] = {key: value for key, value in run["training"].items() if key not in IMMATERIAL}
    return values
