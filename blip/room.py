"""What to say of an error that came for lack of room, as of a full disk: what is used up, where, and the way out.

with room_noted(target, temporary):       # for errors that do not say of which file they are
    write(temporary)

except Exception as error:
    if lacks_room(error):
        print(no_room(error))
"""

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MIB = 1 << 20
USED_UP = {  # and how to have more of it
    errno.ENOSPC: ("no space left on the device", "free some space"),
    errno.EDQUOT: ("your quota of the disk is used up", "remove files of yours, or have it raised"),
    errno.EFBIG: (
        "a file may not grow any larger",
        "raise the limit (`ulimit -f`, or that of the file system)",
    ),
}
CROWDED = ("no file can be added", "remove files")  # which is told as a full disk
SOUND = "Nothing half-written is taken for done"
NO_ROOM = f"{{said}} ({{what}}{{where}}). {SOUND}: {{way}}, then the same command continues"
OF_PROJECT = (
    " (`dvc gc -w` drops cached data that nothing here uses; mlruns/ has old runs). Where DVC says then that a file of "
    "its own is damaged, `blip doctor` says what helps"
)


def lacks_room(error: BaseException) -> bool:
    """Whether a disk or a quota is full, or a file too large."""
    return _number(error) is not None


def is_full(path: Path) -> bool:
    """Whether the disk of a path has no room to speak of, or takes no further file."""
    with suppress(OSError):  # where this account may not look, nobody knows
        place = _there(path)
        return _free(place) < MIB or _is_crowded(place)
    return False


def no_room(error: BaseException) -> str:
    """What is used up: on the disk of the file which is written, or else on one of those that may be written to."""
    for note in getattr(error, "__notes__", ()):
        if SOUND in note:
            return note
    name = _name(error)
    what = f"writing {name}; " if name else ""
    return _message(_number(error) or errno.ENOSPC, what, _disks([name] if name else _written()))


@contextmanager
def room_noted(target: Path, temporary: Path | None = None) -> Iterator[None]:
    """Note with an error for lack of room that it came of writing `target`; `temporary`: where that is meanwhile.

    It is noted how far that came, and what is free beside it: before it is removed, which makes room.
    """
    try:
        yield
    except Exception as error:
        note_room(error, target, temporary or target)
        raise


def note_room(error: Exception, target: Path, temporary: Path) -> None:
    """Note it with an error that came of writing; of one that is noted, as of a file in it, only where that will be."""
    number, name = _number(error), _name(error)
    notes = getattr(error, "__notes__", [])
    with suppress(OSError):  # of what goes away while it is measured
        if number and not notes and (name is None or name.is_relative_to(temporary)):
            size = _size(temporary)
            came = f", {size / MIB:,.0f} MiB of which were written" if size >= MIB else ""
            notes = [_message(number, f"writing {target}{came}; ", _disks([target.parent]))]
    if number and notes:
        error.__notes__ = [note.replace(str(temporary), str(target)) for note in notes]


def _message(number: int, what: str, disks: list[Path]) -> str:
    said, way = USED_UP[number]
    if number != errno.ENOSPC:  # what is free says nothing of it
        about = [f"on the disk of {' or '.join(map(str, disks))}"]
    elif crowded := list(filter(_is_crowded, disks)):
        disks, (said, way) = crowded, CROWDED
        about = [f"0 of {os.statvfs(one).f_files:,} inodes free on the disk of {one}" for one in disks]
    else:
        about = [f"{_free(one) / MIB:,.0f} MiB free on the disk of {one}" for one in disks]
    message = NO_ROOM.format(said=said, what=what, where=", ".join(about), way=way)
    known = number == errno.ENOSPC or (number == errno.EDQUOT and len(disks) == 1)
    return message + OF_PROJECT if known and _has_project(min(disks, key=_free)) else message


def _name(error: BaseException) -> Path | None:
    """The file that an error names: of two, as where one is copied, the one that is written."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return Path(os.fsdecode(name)) if name else None


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def _number(error: BaseException) -> int | None:
    """Which of these errors it is; libraries in other languages say so only in words."""
    number = getattr(error, "errno", None)
    if number in USED_UP:
        return number
    return next((one for one in USED_UP if os.strerror(one) in str(error)), None)


def _free(place: Path) -> int:
    return shutil.disk_usage(place).free


def _is_crowded(place: Path) -> bool:
    """Whether a disk has bytes free and takes no further file; some have no limit of these, and tell none."""
    disk = os.statvfs(place)
    return disk.f_files > 0 and disk.f_favail == 0 and disk.f_bavail > 0


def _written() -> list[Path]:
    """Where a command may write that does not say what it wrote."""
    named = [Path(argument) for argument in sys.argv[2:] if "/" in argument]
    return [Path.cwd(), *named, Path(tempfile.gettempdir())]


def _disks(places: list[Path]) -> list[Path]:
    """Of each disk that places are on the first one, or of one that is not there the nearest folder above it."""
    disks: dict[int, Path] = {}
    for place in map(_there, places):
        disks.setdefault(place.stat().st_dev, place)
    return list(disks.values())


def _there(path: Path) -> Path:
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


def _has_project(place: Path) -> bool:
    """Whether the project in the current folder is on the disk of a place."""
    return place.stat().st_dev == Path.cwd().stat().st_dev and Path("dvc.yaml").is_file()
