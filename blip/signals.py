"""How a server that waits is ended: by Ctrl-C, by SIGTERM, or by the closing of its terminal."""

import signal


def end_by_signals() -> None:
    """Have all three raise KeyboardInterrupt, so that what the process opened is closed and removed.

    A shell starts background jobs with SIGINT ignored. A SIGHUP that is ignored stays so: `nohup` asked for it.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
