"""How a server that waits is ended: by Ctrl-C, by SIGTERM, or by the closing of its terminal."""

import signal
from types import FrameType


def end_by_signals() -> None:
    """Have all three end the process by a KeyboardInterrupt, so that what it opened is closed and removed.

    A shell starts background jobs with SIGINT ignored. A SIGHUP that is ignored stays so: `nohup` asked for it.
    Another one is taken for SIGTERM, for which a server may have its own way later.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _as_sigterm)


def _as_sigterm(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)
