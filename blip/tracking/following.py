"""Logs a curve while another process writes it: the ranks of a training run know no MLflow.

with following(run, Path("runs/pretrain/curve.csv")):
    spawn(...)                       # its rank 0 appends to the file
"""

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blip.repeating import repeated
from blip.tracking.runs import StageRun

SECONDS = 5.0  # between two looks at the file

Row = dict[str, str]


@contextmanager
def following(run: StageRun, path: Path, prefix: str = "", every: float = SECONDS) -> Iterator[None]:
    """Log the rows of a CSV file by its `step` column as they come, and the last of them when the block ends.

    What the file holds before it is written anew is of another run, or of an attempt that the ranks will cut to the
    step that they resume from: it is left alone until then. When it is cut later, by a run that goes
    back to a checkpoint, rows that differ from those before are logged beside them: the later one of a step counts. So
    are all of a training that has another folder now, as that of other data has, and goes on with nothing of what the
    MLflow run has of the one before.
    """
    curve = _Curve(path)
    with repeated(lambda: _log(run, curve, prefix), every) as followed:
        yield
    followed.result()


def _log(run: StageRun, curve: "_Curve", prefix: str) -> None:
    for row, again in curve.new_rows():
        run.add_row(row, prefix, again)
    run.flush()


class _Curve:
    """The rows that a file has got since the last look, whole lines only; of a replaced one those that differ."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stale, self._folder = _state(path), _state(path.parent)
        self._file, self._read = 0, 0
        self._columns: list[str] = []
        self._given: dict[str, Row] = {}  # by step

    def new_rows(self) -> list[tuple[Row, bool]]:
        """Rows, and whether each takes the place of another one; a file that cannot be read now has none yet."""
        try:
            return self._found()
        except OSError as error:  # a network file system's moment
            print(f"warning: {self._path} cannot be read for MLflow now: {error}", file=sys.stderr)
            return []

    def _found(self) -> list[tuple[Row, bool]]:
        state = _state(self._path)
        if state in (None, self._stale):
            return []
        file, size, _ = state
        if file != self._file or size < self._read:
            self._file, self._read, self._columns = file, 0, []
        anew = self._is_anew()  # before anything is read: a row counts as read once
        rows = self._read_on()
        new = [
            (row, anew or row["step"] in self._given) for row in rows if self._given.get(row["step"]) != row
        ]
        self._given |= {row["step"]: row for row in rows}
        return new

    def _is_anew(self) -> bool:
        """Whether the folder is another one than at first."""
        now = _state(self._path.parent)
        return now is None or self._folder is None or now[0] != self._folder[0]

    def _read_on(self) -> list[Row]:
        with self._path.open("rb") as handle:
            handle.seek(self._read)
            text = handle.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        rows = list(csv.reader(whole.decode().splitlines()))
        if rows and not self._columns:
            self._columns = rows.pop(0)
        return [dict(zip(self._columns, row, strict=True)) for row in rows]


def _state(path: Path) -> tuple[int, int, int] | None:
    """Which file is behind a path, its size and when it was written to."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
