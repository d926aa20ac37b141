"""Folders in which the databases of MLflow and Prefect cannot lie: their address would be read as another path.

see_that_databases_open(Path("/data/a%20b"))     # BlipError: ... move the project
"""

import re
from pathlib import Path

from blip.errors import BlipError

_MISREAD = re.compile(r"%[0-9a-fA-F]{2}|\?")


def see_that_databases_open(folder: Path) -> None:
    """Raise BlipError where the path has what SQLAlchemy reads as a character's code, or as the end of the path."""
    if found := _MISREAD.search(str(folder.resolve())):
        raise BlipError(
            f"the path {folder.resolve()} has {found[0]!r} in it, with which MLflow and Prefect would open another "
            "file than theirs; move the project to a path without it"
        )
