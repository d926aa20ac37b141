"""dvc.lock, in which DVC says what it has saved; other stages may be saved while this one reads it.

yaml.safe_load(whole_text())
"""

import time
from pathlib import Path

LOCK = Path("dvc.lock")
STILL = 0.3  # seconds without a change, after which DVC is not writing
TRIES = 20  # that long, for a lock that never ends as DVC ends it


def whole_text() -> str:
    """The text of dvc.lock, which DVC empties and writes piece by piece: each piece may be read as a whole."""
    text = ""
    for _ in range(TRIES if LOCK.is_file() else 0):
        before, text = text, LOCK.read_text(encoding="utf-8")
        if text == before and text.endswith("\n"):
            break
        time.sleep(STILL)
    return text
