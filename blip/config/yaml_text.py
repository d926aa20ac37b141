"""What a YAML file of the project says; where git has left a conflict in it, that is said."""

from pathlib import Path
from typing import Any

import yaml

from blip.errors import BadArguments

CONFLICT = "<<<<<<< "


def read_yaml(text: str, path: Path) -> dict[str, Any]:
    """The text of a file as a table; {} for an empty one.

    Raises:
        BadArguments: it is not YAML.
    """
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        numbers = (number for number, line in enumerate(text.splitlines(), 1) if line.startswith(CONFLICT))
        if number := next(numbers, None):
            raise BadArguments(
                f"{path}: has a conflict of git, from line {number} on, that nobody has settled; keep one of the two "
                f"sides, and take out the lines that begin with {CONFLICT.strip()}, ======= and >>>>>>>"
            ) from None
        raise BadArguments(f"{path}: not valid YAML: {error}") from None
