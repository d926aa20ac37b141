"""Ranks on one machine or many, started and watched by us.

    spawn("pretrain", ranks=2, arguments=["blip.stages.rank", "pretrain"], marker=saved, threads=1)

On every node one process, the agent, starts the ranks of that node and watches them. The agent of node 0 is the stage
itself: it does all the bookkeeping and gives the orders. The others (`blip stage` on another node, which sees that it
is not the first) take orders and no more. They meet in a store that node 0 holds; the ranks meet there too.

    place.py       which node this is, how many there are, where the store is (auto, local, environment)
    address.py     node 0's address, where its own name is loopback
    hostfile.py    the same from a hostfile, and the start of the other nodes through ssh
    slurm.py       the same from what srun tells a task
    kubernetes.py  the same from what an indexed Job tells a pod
    crew.py        node 0: gives orders, hears of the other nodes, says how it ended
    follow.py      another node: takes orders until there are no more
    node.py        an agent's work: start this node's ranks, watch them, end them
    ranks.py       the ranks of one node as processes
    store.py       the store where all meet
"""

from pathlib import Path

from blip.config import Launch
from blip.training.launch.place import Place


def spawn(
    name: str, ranks: int, arguments: list[str], marker: Path, threads: int, launch: Launch | None = None
) -> None:
    """Run a module on that many ranks of this machine and wait; success is that they wrote `marker`.

    Raises:
        Preempted: the ranks were asked to stop, and saved a checkpoint if they were that far.
        BlipError: they ended without `marker`; says which rank was the cause.
    """
    from blip.training.launch.crew import Crew

    with Crew(Place(), launch or Launch.model_validate({})) as crew:
        crew.run(name, ranks, arguments, marker, threads)
