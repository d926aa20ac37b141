"""The seconds of a stage that goes on where it was ended: those of all its attempts.

    with counted("pretrain", run.run_id) as seconds:
        ...                                             # days of training
        seconds()

    .blip/seconds/STAGE.json    the MLflow run, which is the same one for all attempts, and the seconds so far

They are noted every minute: of an attempt that was killed, those until the last note count.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blip.atomic import write_json
from blip.repeating import repeated
from blip.tracking.store import STATE

FOLDER = STATE / "seconds"
EVERY = 60.0  # seconds between two notes


@contextmanager
def counted(stage: str, run_id: str) -> Iterator[Callable[[], float]]:
    """Count the seconds of an attempt, beside those of the attempts before it that had the same MLflow run."""
    file, began = FOLDER / f"{stage}.json", time.monotonic()
    before = _noted(file, run_id)

    def seconds() -> float:
        return before + time.monotonic() - began

    def note() -> None:
        write_json(file, {"run": run_id, "seconds": seconds()})

    with repeated(note, EVERY):
        yield seconds


def _noted(file: Path, run_id: str) -> float:
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
        return float(noted["seconds"]) if noted["run"] == run_id else 0.0
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0
