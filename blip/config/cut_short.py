"""Files of DVC's own that a full disk has cut short: DVC refuses them from then on, and does not say what helps.

files_cut_short()     # [".dvc/tmp/rwlock was cut short, ... remove it"]; most often []
"""

import json
import time
from pathlib import Path

LOCK, RWLOCK = Path("dvc.lock"), Path(".dvc/tmp/rwlock")
STILL = 0.5  # seconds without a change, after which DVC is not writing
WAYS = {
    RWLOCK: "It only says which dvc commands are at work: when none is, remove it (rm {file})",
    LOCK: "Take it from git again (git checkout {file}), or if it was never committed, remove it (rm {file}): `dvc "
    "repro` then takes what is the same from its cache",
}


def files_cut_short() -> list[str]:
    """What was cut short, with what to do about it; what DVC is writing just now is no such file."""
    cut = {file: way.format(file=file) for file, way in WAYS.items() if _is_cut(file)}
    return [f"{file} was cut short, as by a full disk. {way}" for file, way in cut.items()]


def _is_cut(file: Path) -> bool:
    before = None
    while file.is_file() and not _ends(file, text := file.read_text(encoding="utf-8", errors="replace")):
        if text == before:
            return True
        before = text
        time.sleep(STILL)
    return False


def _ends(file: Path, text: str) -> bool:
    """Whether a text ends as DVC ends that file."""
    if file == LOCK:
        return text.endswith("\n")
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
