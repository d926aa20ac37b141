"""A node among the nodes of a run, how many ranks it has, and which launcher started this process.

place = Place(node=1, nodes=2)
place.slots(ranks=16)                   # (8, 8)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from blip.config import Launch
from blip.errors import BadArguments

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Place:
    """A node among the nodes of a run; one alone is this machine.

    Attributes:
        node: its number; node 0 does the stage's bookkeeping.
        nodes: how many there are.
        master: name or address of node 0, as the others reach it.
        port: of the store on node 0; 0 lets the system choose.
        given: the most ranks of each node, where a hostfile says so; else they share them equally.
        before: nodes on this machine that come before this one (a launcher that starts a process for each GPU makes
            each a node): their ranks have the first GPUs.
        shared: how many nodes are on one machine.
        hosts: names of the nodes, for messages.
        served: the launcher's own agent holds the store already (torchrun).
        remote: node 0 starts the other nodes through the remote shell.
    """

    node: int = 0
    nodes: int = 1
    master: str = LOOPBACK
    port: int = 0
    given: tuple[int, ...] = ()
    before: int = 0
    shared: int = 1
    hosts: tuple[str, ...] = ()
    served: bool = False
    remote: bool = False

    def slots(self, ranks: int) -> tuple[int, ...]:
        """Ranks of each node. Raises BadArguments if `ranks` does not fit the nodes."""
        if self.given:
            return filled(self.given, ranks)
        if ranks % self.nodes:
            raise BadArguments(
                f"training.ranks is {ranks}, which {self.nodes} nodes cannot share equally; make it a multiple"
            )
        return (ranks // self.nodes,) * self.nodes

    def beside(self, ranks: int) -> int:
        """The most ranks of one machine. Raises BadArguments if `ranks` does not fit the nodes."""
        return max(self.slots(ranks)) * self.shared

    def host(self, node: int) -> str:
        """The name of a node, for messages."""
        return self.hosts[node] if node < len(self.hosts) else f"node {node}"


def filled(slots: tuple[int, ...], ranks: int) -> tuple[int, ...]:
    """Ranks of each node of a hostfile: the first ones are filled, and those that are left over have none.

    Raises:
        BadArguments: `ranks` are more than there are slots, or leave part of a node empty that is not the only one.
    """
    left, taken = ranks, []
    for there in slots:
        taken.append(min(there, left))
        left -= taken[-1]
    if left or any(0 < some < there for some, there in zip(taken[1:], slots[1:], strict=True)):
        whole = ", ".join(map(str, accumulate(slots)))
        raise BadArguments(
            f"training.ranks is {ranks}, but the hostfile has {sum(slots)} slots on {len(slots)} nodes, and nodes are "
            f"filled one after the other: make it {whole}, or less than the first node has"
        )
    return tuple(taken)


def launcher_of(launch: Launch, environment: Mapping[str, str]) -> str:
    """Who started this process: as the settings say, or as far as it is to be seen."""
    return launch.launcher if launch.launcher != "auto" else _guess(launch, environment)


def _guess(launch: Launch, environment: Mapping[str, str]) -> str:
    """Who started this process; a launcher that started one process alone does not count."""
    if int(environment.get("WORLD_SIZE", "1")) > 1 and "RANK" in environment:
        return "environment"
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return "slurm"
    if "JOB_COMPLETION_INDEX" in environment and int(environment.get("BLIP_NODES", "1")) > 1:
        return "kubernetes"
    return "hostfile" if launch.hostfile else "local"
