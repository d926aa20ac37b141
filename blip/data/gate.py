"""The gate of validation, for those who open a dataset: it passed, and is what passed.

see_that_it_passed(Path("data/datasets/validated"), "human")        # raises BlipError if not

Nothing is said of a dataset that validation has not looked at, as of those that later stages make.
"""

import json
from pathlib import Path

from blip.data.manifest import manifest_digest
from blip.errors import BlipError

GATE = "gate.json"
AGAIN = "run `blip stage validate` (or `dvc repro validate`)"


def see_that_it_passed(validated: Path, name: str) -> None:
    """Hold the dataset `name` beside the folder `validated` against the gate in there.

    Raises:
        BlipError: it did not pass, or was made anew since.
    """
    try:
        verdict = json.loads((validated / GATE).read_text(encoding="utf-8"))["datasets"].get(name)
        if verdict is None:
            return
        passed, digest = verdict["passed"], verdict["manifest"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BlipError(f"{validated / GATE} cannot be read ({error!r}); {AGAIN}") from None
    dataset = validated.parent / name
    if not passed:
        raise BlipError(f"{dataset} did not pass validation; mend it and {AGAIN}, which says why")
    if manifest_digest(dataset) != digest:
        raise BlipError(f"{dataset} is not what passed validation, it was made anew since; {AGAIN}")
