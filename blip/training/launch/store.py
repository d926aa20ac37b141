"""The store where the agents and the ranks of a run meet: key and value over TCP, held by node 0.

    store = serve("127.0.0.1", 0)                        # node 0's agent; `store.port` is the one the system chose
    store = join("gpu01", 29400, timeout=600)            # any other agent
    torch.distributed.init_process_group(backend, store=ranks_store())   # a rank that an agent started

It listens on the address the nodes know node 0 by, which is loopback where there is one node, not on all addresses.
"""

import os
import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from blip.errors import BlipError

if TYPE_CHECKING:
    from torch.distributed import Store, TCPStore  # pyright: ignore[reportAttributeAccessIssue,reportPrivateImportUsage]

ORDER = "BLIP_ORDER"  # the variable that tells a rank which of the crew's orders it works on
ANSWER_SECONDS = 60.0  # what a question to the store may take; node 0 is gone if it takes longer
NAME_SECONDS = 60.0  # until a name is known: that of a pod is some time after the pod has started
RANKS_WAIT = timedelta(minutes=30)  # for each other, when they form their group, unless they say otherwise


def serve(address: str, port: int) -> "TCPStore":
    """Hold the store on that address. Raises BlipError if it is not this machine's or the port is taken."""
    from torch.distributed import TCPStore  # pyright: ignore[reportAttributeAccessIssue,reportPrivateImportUsage]

    try:
        found = _found(address, port)
        listener = socket.socket(found[0])
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[4])
        listener.listen(2048)
    except OSError as error:
        raise BlipError(
            f"the nodes cannot meet at {address}:{port}: {error}. Node 0 must have that address, and no other run on "
            "it that port (launch.master_port)"
        ) from error
    chosen = listener.getsockname()[1]
    return TCPStore(
        address,
        chosen,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=ANSWER_SECONDS),
        master_listen_fd=listener.detach(),
    )


def join(address: str, port: int, timeout: float) -> "TCPStore":
    """The store that node 0 holds; waits for it. Raises BlipError when it is not there after `timeout` seconds."""
    from torch.distributed import TCPStore  # pyright: ignore[reportAttributeAccessIssue,reportPrivateImportUsage]

    _wait_for(address, port, timeout)
    return TCPStore(
        address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=ANSWER_SECONDS)
    )


def is_responsible() -> bool:
    """Whether this process answers for its run: alone, or the first of ranks that no agent started."""
    return ORDER not in os.environ and rank_and_world()[0] == 0


def rank_and_world() -> tuple[int, int]:
    """Which of how many ranks this process is; alone where what a launcher has left names no others."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ["RANK"]), world) if world > 1 and "RANK" in os.environ else (0, 1)


def ranks_store(wait: timedelta | None = None) -> "Store | None":
    """What the ranks of one order form their group in; None if no agent started this process."""
    if ORDER not in os.environ:
        return None
    from torch.distributed import PrefixStore, TCPStore  # pyright: ignore[reportAttributeAccessIssue,reportPrivateImportUsage]

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=wait or RANKS_WAIT)
    return PrefixStore(f"ranks/{os.environ[ORDER]}", store)


def _found(address: str, port: int):
    """What `socket.getaddrinfo` says of the address, once it knows it."""
    deadline = time.monotonic() + NAME_SECONDS
    while True:
        try:
            return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        except socket.gaierror:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _wait_for(address: str, port: int, timeout: float) -> None:
    """Until somebody listens there; torch's own waiting prints a page of warnings for every try."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise BlipError(
                    f"node 0 is not at {address}:{port} after {timeout:.0f} s ({error}); was the stage started there "
                    "too, does it run still, and is the port open between the nodes?"
                ) from error
        time.sleep(0.5)
