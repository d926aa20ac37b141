"""A process that is asked to stop, by SIGTERM or SIGUSR1, and does so when it is ready.

    with stop_requested() as stop:
        ...
        if stop.is_set(): ...

Ranks ask each other before they act on it (blip.training.vote).
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def stop_requested() -> Iterator[threading.Event]:
    """An event that the signals set, for as long as the block lasts (in the main thread; else they never do)."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.signal(number, lambda *_: event.set()) for number in SIGNALS}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
