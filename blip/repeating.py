"""Something that is done again and again beside a block of code, and once more at its end.

with repeated(write_down_the_seconds, every=60.0):
    ...                                             # days of training
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def repeated(do: Callable[[], object], every: float) -> Iterator[Future[None]]:
    """Do it in a thread of its own, every so many seconds; what it raises ends it and is in the future."""
    done = threading.Event()

    def keep_doing() -> None:
        while not done.wait(every):
            do()
        do()

    with ThreadPoolExecutor(1, thread_name_prefix="repeated") as pool:
        doing = pool.submit(keep_doing)
        try:
            yield doing
        finally:
            done.set()
