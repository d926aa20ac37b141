"""dvc.lock, in which DVC says what it has saved; other stages may be saved while this one reads it.

stages_in(whole_text())     # {"ingest": {"cmd": ..., "deps": [...], "outs": [...]}, ...}
"""

import time
from pathlib import Path
from typing import Any

from blip.config.yaml_text import read_yaml

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


def stages_in(text: str) -> dict[str, Any]:
    """What a text of dvc.lock says of each stage. Raises BadArguments if it is not YAML."""
    return read_yaml(text, LOCK).get("stages", {})
