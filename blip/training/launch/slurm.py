"""The place of a task that srun started: one task a node, or one a GPU (infra/slurm/pretrain.sbatch)."""

import re
from collections.abc import Mapping

from blip.config import Launch
from blip.training.launch.place import LOOPBACK, Place

BRACKETS = re.compile(r"^(?P<head>[^\[]*)\[(?P<numbers>[^\]]+)\](?P<tail>.*)$")


def find_place(launch: Launch, environment: Mapping[str, str]) -> Place:
    """From SLURM_PROCID, SLURM_LOCALID, SLURM_STEP_NUM_TASKS and the list of the step's nodes, the first is node 0's.

    Tasks that all are on one machine meet on loopback.

    Raises:
        KeyError: srun did not start this process.
    """
    names = expand(environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"])
    tasks = int(environment["SLURM_STEP_NUM_TASKS"])
    return Place(
        int(environment["SLURM_PROCID"]),
        tasks,
        names[0] if len(names) > 1 else LOOPBACK,
        launch.master_port,
        before=int(environment["SLURM_LOCALID"]),
        shared=-(-tasks // len(names)),
        hosts=tuple(names) if len(names) == tasks else (),
    )


def expand(names: str) -> list[str]:
    """The names of a Slurm node list: `gpu[01-03,07],login` are gpu01, gpu02, gpu03, gpu07 and login."""
    return [name for part in re.split(r",(?![^\[]*\])", names) for name in _expand_one(part)]


def _expand_one(part: str) -> list[str]:
    match = BRACKETS.match(part)
    if match is None:
        return [part]
    numbers: list[str] = []
    for one in match["numbers"].split(","):
        first, _, last = one.partition("-")
        numbers += [f"{n:0{len(first)}d}" for n in range(int(first), int(last or first) + 1)]
    return [f"{match['head']}{number}{tail}" for number in numbers for tail in _expand_one(match["tail"])]
