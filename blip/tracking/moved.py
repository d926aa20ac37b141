"""A project folder that was renamed or copied takes the files of its runs along.

MLflow writes whole paths into its database: without this, a copy would write its artifacts into the first folder, and
read its models there.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

PLACES = {  # columns with paths of artifacts
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def adopt(database: Path, artifacts: Path) -> None:
    """Have a store's artifacts be where they lie now; nothing is written when they are where the store says."""
    here = artifacts.resolve()
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        found = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for there in {_folder(location, here.name) for (location,) in found} - {str(here), here.as_uri(), ""}:
            new = here.as_uri() if there.startswith("file:") else str(here)
            for table, column in PLACES.items():
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE instr({column}, ?) = 1",
                    (new, len(there) + 1, there),
                )


def _folder(location: str | None, name: str) -> str:
    """The artifacts' folder in a path or address of this disk: ``/old/mlruns`` of ``/old/mlruns/1``, or nothing."""
    if not (location or "").startswith(("/", "file:///")):
        return ""
    before, slash, _ = f"{location}/".rpartition(f"/{name}/")
    return f"{before}/{name}" if slash else ""
