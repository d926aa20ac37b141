"""What to say of an error that came for lack of room, as of a full disk: what is used up, where, and the way out.

except Exception as error:
    if lacks_room(error):
        print(no_room(error))
"""

import errno
import os
import shutil
import sys
import tempfile
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
NO_ROOM = "{said} ({where}). Nothing half-written is taken for done: {way}, then the same command continues"
OF_PROJECT = (
    " (`dvc gc -w` drops cached data that nothing here uses; mlruns/ has old runs). Where DVC says then that a file of "
    "its own is damaged, `blip doctor` says what helps"
)


def lacks_room(error: BaseException) -> bool:
    """Whether a disk or a quota is full, or a file too large."""
    return _number(error) is not None


def no_room(error: BaseException) -> str:
    """What is used up: on the disk of the file which the error names, else on one of those that are written to."""
    number = _number(error) or errno.ENOSPC
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    disks = _disks([Path(os.fsdecode(name))] if name else _written())
    said, way = USED_UP[number]
    if number != errno.ENOSPC:  # what is free says nothing of it
        about = [f"on the disk of {' or '.join(map(str, disks))}"]
    elif crowded := list(filter(_is_crowded, disks)):
        disks, (said, way) = crowded, CROWDED
        about = [f"0 of {os.statvfs(one).f_files:,} inodes free on the disk of {one}" for one in disks]
    else:
        about = [f"{_free(one) / MIB:,.0f} MiB free on the disk of {one}" for one in disks]
    where = f"writing {name}; " if name else ""
    message = NO_ROOM.format(said=said, where=where + ", ".join(about), way=way)
    known = number == errno.ENOSPC or (number == errno.EDQUOT and len(disks) == 1)
    return message + OF_PROJECT if known and _has_project(min(disks, key=_free)) else message


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
