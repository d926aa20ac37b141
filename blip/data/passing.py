"""Errors of a disk or a share that may pass, and say nothing of the file in whose reading they come.

    data = patiently(file.read_bytes, file)            # tried again; OSError: it is not there, or may not be read
    except OSError as error:
        see_that_it_is_its_own(error, path)            # BlipError: the disk or the share failed

What is finished is kept when an ingestion ends, and goes into no list of what is bad.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from blip.errors import BlipError
from blip.rereading import is_its_own, read_again

Found = TypeVar("Found")


def patiently(look: Callable[[], Found], file: Path) -> Found:
    """What a look at a file gives, tried again where the disk or the share fails.

    Raises:
        OSError: it is the file's own.
        BlipError: the disk or the share fails still.
    """
    try:
        return read_again(look)
    except OSError as error:
        see_that_it_is_its_own(error, file)
        raise


def see_that_it_is_its_own(error: BaseException, file: Path | str) -> None:
    """Raise a BlipError where it is not the file that is bad."""
    if isinstance(error, OSError) and not is_its_own(error):
        raise BlipError(
            f"{file} cannot be read: {error.strerror or error}. That says nothing of what is in it: see that the disk "
            "or share is sound and there, or take the file away, and run the same again: what is finished is kept"
        ) from None


def is_there(path: Path) -> bool:
    """Whether there is anything at a path; of a link, where it leads."""
    try:
        patiently(path.stat, path)
    except OSError:
        return False
    return True
