"""Another node than the first: does what node 0 says until there is no more to do.

    blip stage pretrain                                                # on a node that is not the first
    python -m blip.training.launch.follow MASTER PORT NODE NODES WAIT  # what node 0 starts through ssh

It keeps nothing: outputs, MLflow and messages are node 0's. It ends when that does, with the same exit code.
"""

import json
import sys
import time
from typing import TYPE_CHECKING

from blip.errors import PREEMPTED, BlipError, Preempted, exit_code_of
from blip.training.launch import node
from blip.training.launch.place import Place
from blip.training.launch.ranks import Order
from blip.training.launch.store import join
from blip.training.preemption import stop_requested

if TYPE_CHECKING:
    import threading

    from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]


def follow(place: Place, start_timeout: float) -> None:
    """Take orders; returns when node 0 has done the stage.

    Raises:
        Preempted: the run was asked to stop.
        BlipError: node 0 failed, is not to be found, or was lost.
    """
    with stop_requested() as stop:
        store = join(place.master, place.port, start_timeout)
        print(f"node {place.node} of {place.nodes} takes orders from {place.master}:{place.port}", flush=True)
        try:
            code = _orders(place, store, stop)
        except RuntimeError as error:  # what torch's store says when the other end is gone
            raise BlipError(
                f"node 0 ({place.master}) is gone; its ranks here were ended ({error})"
            ) from error
    if code == PREEMPTED:
        raise Preempted(f"node {place.node}: the ranks were stopped; run it again to go on")
    if code:
        raise BlipError(f"node {place.node}: the run failed; node 0 ({place.master}) says why")


def _orders(place: Place, store: "Store", stop: "threading.Event") -> int:
    """Work on one order after the other; the exit code of node 0."""
    number, address = 1, (place.master, place.port)
    while not store.check(["end"]):
        store.add(f"alive/{place.node}", 1)
        if store.check([f"order/{number}"]):
            values = json.loads(store.get(f"order/{number}"))
            node.work(Order(**values), place, store, address, stop)
            number += 1
        elif stop.is_set():
            # Node 0 hears of it as its ranks do, of an order without ranks here too.
            for one in (number - 1, number):
                store.set(f"stopped/{one}", "1")
        time.sleep(node.POLL_SECONDS)
    code = int(store.get("end"))
    store.set(f"gone/{place.node}", "1")
    return code


def main() -> int:
    """The agent that node 0 started through a remote shell; exit codes as of `blip stage`."""
    master, port, number, nodes, wait = sys.argv[1:6]
    return exit_code_of(lambda: follow(Place(int(number), int(nodes), master, int(port)), float(wait)))


if __name__ == "__main__":
    sys.exit(main())
