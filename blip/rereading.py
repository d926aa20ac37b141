"""What cannot be read for a moment, as on a network's disk whose server starts again, is read again.

text = read_again(lambda: path.read_text())        # raises OSError only if that lasts
"""

import time
from collections.abc import Callable
from typing import TypeVar

PAUSES = (0.5, 2.0, 5.0)  # seconds before another try

Value = TypeVar("Value")


def read_again(read: Callable[[], Value]) -> Value:
    """What `read` gives, if need be at one of a few more tries; what is not there is not waited for.

    Raises:
        OSError: of the last try. It says nothing of what would have been read.
    """
    for pause in PAUSES:
        try:
            return read()
        except FileNotFoundError:
            raise
        except OSError:
            time.sleep(pause)
    return read()
