"""The ranks of one node as processes: started, asked to stop, ended with all that they started.

    ranks = Ranks(order, place, address=("127.0.0.1", 29400), beats=folder)
    ranks.codes()        # {0: None, 1: -9}: rank 1 was killed
    ranks.end(5.0)

Each is the leader of a session of its own, so that a signal reaches what it started, and none that is not meant for
it comes from a terminal. `tie_to_parent`, called by a rank, has it end when its agent is killed.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from blip.training.heartbeat import BEAT, STACKS
from blip.training.launch.address import gloo_interface
from blip.training.launch.place import Place
from blip.training.launch.store import ORDER

PARENT = "BLIP_AGENT"
NODE, NODES = "BLIP_NODE", "BLIP_NODES"  # of the agent, as the ranks' variables say it
FIRST = "BLIP_FIRST"  # "1" for one rank of each machine
PR_SET_PDEATHSIG = 1
DUMP_SECONDS = 1.0


@dataclass(frozen=True)
class Order:
    """What the ranks are to do: `python -m ARGUMENTS` on so many ranks of each node, with these seconds' patience."""

    number: int
    name: str
    arguments: tuple[str, ...]
    slots: tuple[int, ...]
    threads: int
    start_timeout: float
    hang_timeout: float
    stop_timeout: float


class Ranks:
    """The processes of an order on one node; `beats` is a folder for a heartbeat file each."""

    def __init__(self, order: Order, place: Place, address: tuple[str, int], beats: Path) -> None:
        self.began = time.monotonic()
        self.beats = beats
        first = sum(order.slots[: place.node])
        local = range(order.slots[place.node])
        self.processes = {
            first + number: subprocess.Popen(
                [sys.executable, "-m", *order.arguments],
                env=_environment(order, place, address, first, number, beats),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            for number in local
        }

    def codes(self) -> dict[int, int | None]:
        """Exit codes by rank; None of one that runs, -N of one that signal N ended."""
        return {rank: _code(process) for rank, process in self.processes.items()}

    def running(self) -> bool:
        """Whether any rank still runs."""
        return None in self.codes().values()

    def beat_file(self, rank: int) -> Path:
        """Where a rank writes its heartbeat."""
        return self.beats / f"rank{rank}"

    def send(self, number: int) -> None:
        """A signal to every rank, which passes it on if it likes."""
        for process in self.processes.values():
            _send(process, number)

    def dump_stacks(self, ranks: list[int]) -> None:
        """Have these ranks write the stacks of all their threads to standard error, and end the others.

        A rank that is stopped has to go on for it; without the others it does not get far.
        """
        for rank in self.processes.keys() - set(ranks):
            _send(self.processes[rank], signal.SIGKILL)
        for rank in ranks:
            _send(self.processes[rank], STACKS)
            _send(self.processes[rank], signal.SIGCONT)
        time.sleep(DUMP_SECONDS)

    def stopped(self) -> list[int]:
        """Ranks that do not run although they have not ended: stopped, or stuck in the system (a disk, a driver)."""
        found = []
        for rank, process in self.processes.items():
            with suppress(psutil.NoSuchProcess):
                if psutil.Process(process.pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP):
                    found.append(rank)
        return found

    def end(self, grace: float) -> None:
        """SIGTERM to those that run, after `grace` seconds SIGKILL to them and to what any of them started."""
        self.send(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in self.processes.values():
            if process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
        for process in self.processes.values():
            process.wait()


def _code(process: "subprocess.Popen[bytes]") -> int | None:
    """Exit code of a rank; None while it runs.

    One that has ended is left to `Ranks.end` to reap: until then no other process, nor group, can get its number.
    """
    if process.returncode is not None:
        return process.returncode
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _send(process: "subprocess.Popen[bytes]", number: int) -> None:
    if _code(process) is None:
        os.kill(process.pid, number)


def tie_to_parent() -> None:
    """Have the system kill this process when the agent that started it ends (Linux)."""
    if sys.platform == "linux" and PARENT in os.environ:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(os.environ[PARENT]):
            os.kill(os.getpid(), signal.SIGKILL)


def _environment(
    order: Order, place: Place, address: tuple[str, int], first: int, number: int, beats: Path
) -> dict[str, str]:
    rank, count = first + number, order.slots[place.node]
    return {
        **os.environ,
        **(gloo_interface(address[0]) if place.nodes > 1 else {}),
        "RANK": str(rank),
        "LOCAL_RANK": str(_device(place.before * count + number)),
        "WORLD_SIZE": str(sum(order.slots)),
        "LOCAL_WORLD_SIZE": str(place.shared * count),
        "MASTER_ADDR": address[0],
        "MASTER_PORT": str(address[1]),
        "OMP_NUM_THREADS": str(order.threads),
        "PYTHONUNBUFFERED": "1",
        ORDER: str(order.number),
        BEAT: str(beats / f"rank{rank}"),
        PARENT: str(os.getpid()),
        NODE: str(place.node),
        NODES: str(place.nodes),
        FIRST: str(int(place.before == number == 0)),
    }


def _device(number: int) -> int:
    """Which of the GPUs it sees is a rank's; a launcher may show each process its own alone."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return number % len(visible.split(",")) if visible else number
