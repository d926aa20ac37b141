"""More than one rank on this machine: the DeepSpeed launcher in a process group of its own.

    spawn("pretrain", ranks=2)      # every rank runs `python -m blip.stages.rank pretrain`

The launcher exits 0 when its direct child dies by a signal, so success is the marker that rank 0 writes last.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from blip.errors import PREEMPTED, BlipError, Preempted

GRACE_SECONDS = 25


def spawn(stage: str, ranks: int, arguments: list[str], marker: Path, threads: int) -> None:
    """Run a module on `ranks` local ranks and wait.

    Raises:
        Preempted: the ranks saved a checkpoint and stopped.
        BlipError: they ended without writing `marker`.
    """
    marker.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", str(ranks), "--master_addr", "127.0.0.1",
        "--master_port", str(_free_port()), "--no_local_rank", "--module", *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    handlers = {
        number: signal.signal(number, lambda *_: _end(process)) for number in (signal.SIGTERM, signal.SIGUSR1)
    }
    try:
        code = process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if marker.is_file():
        return
    if code in (PREEMPTED, -signal.SIGTERM):
        raise Preempted(f"{stage}: the ranks were stopped; run it again to go on from the last checkpoint")
    raise BlipError(
        f"{stage}: the {ranks} ranks ended with code {code} before the model was saved; their messages are above. "
        "Run it again to go on from the last checkpoint"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the whole group, SIGKILL to what is left after a while."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
