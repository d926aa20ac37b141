"""Errors that are the user's to read, and the exit codes of every command."""

import sys
from collections.abc import Callable

from blip.room import lacks_room, no_room

DONE, FAILED, BAD_ARGUMENTS, PREEMPTED = 0, 1, 2, 75


class BlipError(Exception):
    """A failure with a message for the user: what, where, the value, and the way out. Shown without a traceback."""

    exit_code = FAILED


class BadArguments(BlipError):
    """A parameter, recipe or argument that cannot be used as given."""

    exit_code = BAD_ARGUMENTS


class Preempted(BlipError):
    """The process was asked to stop and has saved a checkpoint; running it again continues."""

    exit_code = PREEMPTED


def exit_code_of(work: Callable[[], object]) -> int:
    """Do the work of a process that `blip stage` or a launcher starts; what went wrong is said, and gives its code."""
    try:
        work()
    except BlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if not lacks_room(error):
            raise
        print(f"error: {no_room(error)}", file=sys.stderr)
        return FAILED
    return DONE
