"""Whether the web text of a sample is right, as the table of a pool whose truth is known says it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blip.data.metadata import TRUTH
from blip.errors import BlipError

MATCHED = TRUTH + "matched"
_SAID = {
    "1": True,
    "1.0": True,
    "true": True,
    "yes": True,
    "0": False,
    "0.0": False,
    "false": False,
    "no": False,
}


def is_matched(row: Mapping[str, Any], table: Path) -> bool | None:
    """What a row of the table says of the web text; None where it says nothing.

    Raises:
        BlipError: it says neither yes nor no.
    """
    value = row.get(MATCHED)
    said = "" if value is None else str(value).strip().lower()
    if said and said not in _SAID:
        raise BlipError(
            f"{table}, sample {row['key']}: {MATCHED} is {value!r}, not one of {', '.join(_SAID)}; "
            "mend the column `matched` of truth.csv, and ingest the pool again"
        )
    return _SAID.get(said)
