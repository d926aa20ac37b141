"""Errors that are the user's to read, and the exit codes of every command."""

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
