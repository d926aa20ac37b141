"""Links and folders in a source that are not followed, and how each is refused.

    for file in files_below(path):
        if may_be_folder(file): yield closed(file, name, path)

A picture that is a link out of the source costs itself; a tar or a folder takes with it all that is in it, and how much
that is nobody knows.
"""

from pathlib import Path

from blip.data.archive import UNSAFE
from blip.data.passing import is_there
from blip.ingest.sources.refused import LINKED_AWAY, MISSING, UNREADABLE, Refused, key_of


def leads_nowhere(file: Path) -> bool:
    """Whether it is a link to what is not there."""
    return file.is_symlink() and not is_there(file)


def leads_away(file: Path, path: Path) -> bool:
    """Whether it is a link out of the folder `path`, or to what is not there."""
    if not file.is_symlink():
        return False
    return leads_nowhere(file) or not file.resolve().is_relative_to(path.resolve())


def may_be_folder(file: Path) -> bool:
    """Whether it is a folder, or a link that leads nowhere and is called like one."""
    return file.is_dir() or (leads_nowhere(file) and "." not in file.name)


def closed(folder: Path, name: str, path: Path) -> Refused:
    """The refusal of a folder below `path` that is a link, or may not be opened: what lies there is not read."""
    if not folder.is_symlink():
        return Refused(key_of(name), UNREADABLE, f"{folder}: it is not allowed to read this folder")
    if leads_away(folder, path):
        return linked_away(folder, name, path)
    detail = f"{name} is a link to a folder, which is not followed; what it has is read as {folder.resolve()}"
    return Refused(key_of(name), UNSAFE, detail)


def linked_away(file: Path, name: str, path: Path) -> Refused:
    """The refusal of a tar or folder that is a link out of the folder `path`, or to what is not there."""
    if leads_nowhere(file):
        return gone(file, name, LINKED_AWAY)
    detail = (
        f"{name} is a link to {file.resolve()}, out of {path}; name the folder that holds all as the source, or put a "
        "copy in place of the link"
    )
    return Refused(key_of(name), LINKED_AWAY, detail)


def gone(file: Path, name: str, reason: str = MISSING) -> Refused:
    """The refusal of a link to what is not there."""
    detail = f"{name} is a link to {file.readlink()}, which is not there; get that, or take the link away"
    return Refused(key_of(name), reason, detail)


def led_out(file: Path, name: str, path: Path) -> Refused:
    """The refusal of a picture that is a link to a file elsewhere."""
    detail = (
        f"{name} is a link that leads out of {path}; name {file.resolve().parent} as a source of its own, or put the "
        "picture itself there"
    )
    return Refused(key_of(name), UNSAFE, detail)
