"""What cannot be read for a moment, as on a network's disk whose server starts again, is read again.

text = read_again(lambda: path.read_text())        # raises OSError if that lasts, or if it is of the file itself
"""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

PAUSES = (0.5, 2.0, 5.0)  # seconds before another try
OWN = {  # errors of the file itself, or of its name
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG,
    errno.EINVAL, errno.EILSEQ, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP, errno.EFBIG, errno.EOVERFLOW,
}  # fmt: skip

Value = TypeVar("Value")


def read_again(read: Callable[[], Value]) -> Value:
    """What `read` gives, if need be at one of a few more tries.

    Raises:
        OSError: of the file itself, or of the last try; that one says nothing of what would have been read.
    """
    for pause in PAUSES:
        try:
            return read()
        except OSError as error:
            if is_its_own(error):
                raise
        time.sleep(pause)
    return read()


def is_its_own(error: OSError) -> bool:
    """Whether an error is of the file; one without a number is of who reads what is in it."""
    return error.errno is None or error.errno in OWN
