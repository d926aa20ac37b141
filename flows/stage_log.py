"""The log of a stage, without which a stage goes on where its disk is full.

with closing(StageLog(Path(".blip/logs/pretrain.log"), "w", print)) as log:
    log.add("pretrain: step 20 loss 3.20")
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from blip.room import lacks_room


class StageLog:
    """Takes line after line; for lack of room some are not in it, which is said once."""

    def __init__(self, path: Path, mode: str, warn: Callable[[str], None]) -> None:
        """`mode`: "w" to begin it anew, "a" to go on with what is there."""
        self._path, self._warn, self._warned = path, warn, False
        self._file: FileIO | None = None
        with self._spared():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(path, mode)  # keeps nothing back, which would fail as it is closed

    def add(self, line: str) -> None:
        """Write a line."""
        if self._file:
            with self._spared():
                self._file.write(f"{line}\n".encode())

    def close(self) -> None:
        """No line comes any more."""
        if self._file:
            with self._spared():
                self._file.close()

    @contextmanager
    def _spared(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not lacks_room(error):
                raise
            if not self._warned:
                self._warn(f"warning: lines are missing in {self._path}: {error.strerror}; the stage goes on")
            self._warned = True
