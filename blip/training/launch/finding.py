"""Which of the nodes of a run this process is on, from the settings and what a launcher left in the environment.

place = find_place(settings.launch, os.environ)
place.node, place.slots(ranks=16)       # 1, (8, 8)
"""

from collections.abc import Mapping
from dataclasses import replace

from blip.config import Launch
from blip.errors import BadArguments
from blip.training.launch import hostfile, kubernetes, slurm
from blip.training.launch.address import reachable
from blip.training.launch.place import LOOPBACK, Place, launcher_of


def find_place(launch: Launch, environment: Mapping[str, str]) -> Place:
    """This process's place.

    Raises:
        BadArguments: the launcher that the settings name is not the one that started this process, the hostfile is
            not as it should be, or a number is given to a node without one.
        BlipError: this machine's own name is loopback here, and which of its addresses others reach is not to be seen.
    """
    launcher = launcher_of(launch, environment)
    if launch.node_rank is not None and launcher != "hostfile":
        raise BadArguments(
            f"launch.node_rank is {launch.node_rank}, but the launcher here is {launcher}, which does not read it: it "
            "goes with launch.hostfile (--hostfile), whose lines it counts"
        )
    finders = {
        "local": Place,
        "environment": lambda: _of_environment(launch, environment),
        "hostfile": lambda: hostfile.find_place(launch),
        "slurm": lambda: slurm.find_place(launch, environment),
        "kubernetes": lambda: kubernetes.find_place(launch, environment),
    }
    try:
        place = finders[launcher]()
    except KeyError as missing:
        raise BadArguments(
            f"launch.launcher is {launcher}, but {missing} is not in the environment: this process was not started by "
            "it. Start it as the files of infra show, or use launch.launcher: local"
        ) from None
    if place.nodes == 1 or place.served:
        return place
    return replace(place, master=reachable(place.master, place.hosts[1] if place.remote else None))


def _of_environment(launch: Launch, environment: Mapping[str, str]) -> Place:
    """torchrun, `deepspeed` or mpirun with these names set: each of their processes is a node with one rank.

    How many are on one machine torchrun says as LOCAL_WORLD_SIZE and DeepSpeed as LOCAL_SIZE; else all are.
    """
    world = environment["WORLD_SIZE"]
    here = environment.get("LOCAL_WORLD_SIZE") or environment.get("LOCAL_SIZE")
    served = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Place(
        int(environment["RANK"]),
        int(world),
        LOOPBACK if here == world and not served else environment["MASTER_ADDR"],
        int(environment.get("MASTER_PORT", launch.master_port)),
        before=int(environment.get("LOCAL_RANK", "0")),
        shared=int(here or world),
        served=served,
    )
