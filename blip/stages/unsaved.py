"""What a stage has made and DVC has not saved yet, so that a stage that is ended in between is not done again.

    forget_saved()
    unsaved = Unsaved.of("pretrain", settings)
    made = unsaved.take_up()                    # None: there is nothing, or it was made of something else
    if made is None:
        made = ...                              # days of training
        unsaved.keep(made)

DVC removes the outputs of a stage before it runs it, and counts them as made when it has hashed and stored them: of a
large dataset minutes after the stage is done. Until a stage starts after that they are kept here too, as hard links,
which take no room while the outputs stand. What is put aside takes all of its size, so that of each stage one is kept.
On a file system without such links, and from a disk to another one, nothing is kept, and the checkpoints stay.

    .blip/unsaved/STAGE/made.json    figures, and what it was made of
                        0, 1, ...    the outputs, in dvc.yaml's order
                  STAGE.3f9c2a71/    the same of something else, the newest alone; until DVC has saved what is made now
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from blip.atomic import atomic_path, flush, take_away, write_json
from blip.config import Settings
from blip.config.dvc_yaml import dependencies, outputs
from blip.config.places import RUNS
from blip.data.kept import digest_of, files_of
from blip.errors import BlipError
from blip.rereading import read_again
from blip.tracking.dvc_lock import stages_in, whole_text
from blip.tracking.lineage import digest, parameters
from blip.tracking.measured import Scores, as_json, from_json
from blip.tracking.store import STATE

FOLDER, NOTE = STATE / "unsaved", "made.json"
SETTINGS = "its settings"
ASIDE = re.compile(r"\.[0-9a-f]{8}$")  # behind the stage's name, where it was made of something else
LARGE = 2**20  # bytes of a file from which its time of change counts, and not what is in it


class Made(NamedTuple):
    """Figures of a stage that is done, and what is still there of it: training runs' checkpoints, and folders."""

    scores: Scores
    trained: list[str]
    work: list[str]


def forget_saved() -> None:
    """Remove what DVC has saved since it was kept; other stages may be at work beside this one.

    Raises:
        BlipError: a note cannot be read, so that nobody knows whether DVC has saved what is there.
    """
    for folder in FOLDER.glob("[!.]*"):
        noted = _noted(folder)
        if noted is None or noted["saved"] != _saved(ASIDE.sub("", folder.name)):
            with suppress(FileNotFoundError):  # a stage that starts beside this one was quicker
                take_away(folder)


@dataclass(frozen=True)
class Unsaved:
    """The place for the outputs of a stage that runs under DVC, and digests of what it makes them of, by name."""

    stage: str
    origins: dict[str, str]

    @classmethod
    def of(cls, stage: str, settings: Settings) -> "Unsaved":
        """For a stage that starts now."""
        ignored = _ignored()
        read = {str(place): digest_of(_stamps(place, ignored)) for place in dependencies(stage)}
        return cls(stage, {SETTINGS: digest_of([parameters(stage, settings)]), **read})

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return FOLDER / self.stage

    def take_up(self) -> Made | None:
        """Put the outputs in their places again; None where there are none that were made of the same.

        Raises:
            BlipError: there are some, and they cannot be read or put there.
        """
        noted = self._found()
        if noted is None:
            return None
        try:
            for number, target in enumerate(outputs(self.stage)):
                with atomic_path(target) as temporary:
                    _link(self.folder / str(number), temporary)
        except FileNotFoundError as error:
            print(f"warning: what {self.stage} had made cannot be put back: {error}", file=sys.stderr)
            take_away(self.folder)
            return None
        except OSError as error:  # as on a disk that is full, or from a disk to another one
            raise BlipError(
                f"what {self.stage} had made, and DVC had not saved, cannot be put back: {error}. It stays in "
                f"{self.folder}; make room on its disk, where the outputs must lie too, and run the stage again. Or "
                "remove that folder: the stage is then done anew"
            ) from error
        return Made(from_json(noted["scores"], self.stage), noted["trained"], noted.get("work", []))

    def _found(self) -> dict[str, Any] | None:
        """The note on what was made of the same, which lies in its place now; what was made otherwise is put aside."""
        noted, own = _noted(self.folder), self._aside(self.origins)
        if noted is None:
            take_away(self.folder)
        elif changed := self._changed_since(noted):
            aside = self._aside(noted["made_of"])
            for older in filter(self._is_aside, FOLDER.glob("[!.]*")):
                if older != own:
                    take_away(older)
            # another run has the places of its checkpoints now
            write_json(self.folder / NOTE, noted | {"trained": [], "work": []})
            self.folder.rename(aside)
            print(
                f"{self.stage}: what it had made, and DVC had not saved, was made of something else: "
                f"{', '.join(changed)}. It is in {aside} now, and can be removed; until DVC has saved what is made "
                "now, or that is put aside too, the stage takes it up again where all that is what it was",
                flush=True,
            )
        if not self.folder.exists() and own.exists():
            own.rename(self.folder)
        return _noted(self.folder)

    def _aside(self, made_of: dict[str, str]) -> Path:
        return self.folder.with_name(f"{self.stage}.{digest_of(sorted(made_of.items()))[:8]}")

    def _is_aside(self, folder: Path) -> bool:
        return bool(ASIDE.search(folder.name)) and ASIDE.sub("", folder.name) == self.stage

    def _changed_since(self, noted: dict[str, Any]) -> list[str]:
        before = noted["made_of"]
        return sorted(name for name in self.origins | before if self.origins.get(name) != before.get(name))

    def keep(self, made: Made) -> bool:
        """Link the outputs, and note the figures with them; False, and it is said, where that cannot be done."""
        try:
            with atomic_path(self.folder) as temporary:
                temporary.mkdir()
                for number, target in enumerate(outputs(self.stage)):
                    flush(target)
                    _link(target.resolve(), temporary / str(number))
                note = {"made_of": self.origins, "saved": _saved(self.stage), "trained": made.trained}
                write_json(temporary / NOTE, note | {"work": made.work, "scores": as_json(made.scores)})
        except OSError as error:
            take_away(self.folder)
            stays = ", ".join(str(RUNS / name) for name in made.trained)
            then = f"its checkpoints stay in {stays}; remove them once" if stays else "end nothing before"
            print(
                f"warning: what {self.stage} has made cannot be kept for DVC beside its place: {error}. So {then} DVC "
                "has saved the stage",
                file=sys.stderr,
            )
            return False
        return True


def _link(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=os.link)
    else:
        os.link(source, target)


def _noted(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads(read_again(lambda: (folder / NOTE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise BlipError(
            f"{folder / NOTE} cannot be read: {error.strerror or error}. What was made stays in {folder}, for DVC may "
            "not have saved it; when its disk can be read, run the stage again. Or remove that folder: what DVC has "
            "not saved is then made anew"
        ) from error


def _saved(stage: str) -> str:
    """A digest of what DVC last saved of the stage: another one says that it has saved what was made since."""
    return digest_of([stages_in(whole_text()).get(stage)])


def _stamps(place: Path, ignored: Callable[[str], bool]) -> list[tuple[str, int, str]]:
    """Names and sizes of all files there that DVC sees, and what is in them; of large ones when they were changed."""
    files = (file for file in files_of(place) if not ignored(str(file.absolute())))
    return sorted((str(file), file.stat().st_size, _state(file)) for file in files)


def _state(file: Path) -> str:
    found = file.stat()
    return str(found.st_mtime_ns) if found.st_size >= LARGE else digest(file)


def _ignored() -> Callable[[str], bool]:
    """Whether .dvcignore names a file, as what editors leave beside a source."""
    from dvc.fs import localfs  # pyright: ignore[reportPrivateImportUsage]
    from dvc.ignore import DvcIgnoreFilter

    return DvcIgnoreFilter(localfs, str(Path.cwd())).is_ignored_file
