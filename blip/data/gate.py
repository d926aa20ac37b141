"""The gate of validation, for those who open a dataset: it passed, and is what passed.

see_that_it_passed(Path("data/datasets/validated"), "human")        # raises BlipError if not

Nothing is said of a dataset that validation has not looked at, as of those that later stages make.
"""

import json
from pathlib import Path
from typing import Any

from blip.data.manifest import manifest_digest
from blip.errors import BlipError

GATE = "gate.json"
AGAIN = "run `blip stage validate` (or `dvc repro validate`)"


def see_that_it_passed(validated: Path, name: str) -> None:
    """Hold the dataset `name` beside the folder `validated` against the gate in there.

    Raises:
        BlipError: it did not pass, or was made anew since.
    """
    found = _verdict(validated, name)
    if found is None:
        return
    passed, digest = found
    dataset = validated.parent / name
    if not passed:
        raise BlipError(f"{dataset} did not pass validation; mend it and {AGAIN}, which says why")
    if manifest_digest(dataset) != digest:
        raise BlipError(f"{dataset} is not what passed validation, it was made anew since; {AGAIN}")


def was_made_anew(validated: Path, name: str) -> bool:
    """Whether the dataset `name` is another than the one that validation looked at, whatever came of that."""
    found = _verdict(validated, name)
    return found is not None and manifest_digest(validated.parent / name) != found[1]


def _verdict(validated: Path, name: str) -> tuple[Any, Any] | None:
    """Whether a dataset passed, and the digest of its manifest then; None where validation has not looked at it."""
    try:
        verdict = json.loads((validated / GATE).read_text(encoding="utf-8"))["datasets"].get(name)
        return None if verdict is None else (verdict["passed"], verdict["manifest"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BlipError(f"{validated / GATE} cannot be read ({error!r}); {AGAIN}") from None
