"""Nodes from a hostfile, as DeepSpeed and MPI write it: a line a node, its name and how many ranks it takes at most.

    # infra/hostfile
    gpu01 slots=8
    gpu02 slots=8

Node 0, the first line's, starts the others through a remote shell; or somebody starts the same command on every node
with its number (`--node-rank`), where there is no ssh. All nodes see the project in the same folder.

The variables that the others need (`PASSED_ON`) go through the remote shell's input: some are passwords and tokens, and
a command line is shown to everybody on either machine.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from blip.config import Launch
from blip.errors import BadArguments
from blip.training.launch.place import Place, filled, launcher_of

LINE = re.compile(r"^(?P<host>[\w.:-]+)(\s+slots=(?P<slots>\d+))?$")
PASSED_ON = (
    *("BLIP_", "CUDA_DEVICE_ORDER", "DS_", "GLOO_", "HF_", "MLFLOW_"),
    *("NCCL_", "OMP_", "PYTHON", "TORCH", "UCX_"),
)
READ = 'eval "$(cat)" && exec "$@"'  # what a shell does that is given variables through its input


def find_place(launch: Launch) -> Place:
    """The node of `launch.node_rank`; without one this is node 0, which starts the others."""
    if launch.hostfile is None:
        raise BadArguments(
            "launch.launcher is hostfile: launch.hostfile must name one, as infra/hostfile.example"
        )
    hosts = read_hostfile(Path(launch.hostfile))
    node = launch.node_rank or 0
    if node >= len(hosts):
        raise BadArguments(f"launch.node_rank is {node}, but {launch.hostfile} has only {len(hosts)} nodes")
    return Place(
        node,
        len(hosts),
        next(iter(hosts)),
        launch.master_port,
        tuple(hosts.values()),
        hosts=tuple(hosts),
        remote=launch.node_rank is None,
    )


def read_hostfile(path: Path) -> dict[str, int]:
    """Slots by name, in order. Raises BadArguments with the line that is not one."""
    if not path.is_file():
        raise BadArguments(f"launch.hostfile: there is no file {path}")
    hosts: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = LINE.match(text)
        if match is None or match["host"] in hosts or match["host"].startswith("-"):
            raise BadArguments(
                f"{path}, line {number}: {text!r} is not `NAME slots=N` with a name that stands once"
            )
        hosts[match["host"]] = int(match["slots"] or 1)
    if not hosts:
        raise BadArguments(f"{path} names no node; write a line `NAME slots=N` for each")
    return hosts


def require_room(launch: Launch, ranks: Mapping[str, int]) -> None:
    """Raise BadArguments with the runs that the nodes cannot take, of all by name: before the first of them starts."""
    if launch.hostfile is None or launcher_of(launch, os.environ) != "hostfile":
        return
    slots, refused = tuple(read_hostfile(Path(launch.hostfile)).values()), []
    for name, wanted in ranks.items():
        try:
            filled(slots, wanted)
        except BadArguments as error:
            refused.append(f"{name}: {error}")
    if refused:
        raise BadArguments("\n".join(refused))


@contextmanager
def started(place: Place, launch: Launch, port: int) -> Iterator[None]:
    """Start the agents of the other nodes through the remote shell; at the end wait for them, and end what hangs.

    A node whose agent loses node 0 ends its ranks by itself, so the shell need not pass signals on.
    """
    shells = [_start(place, launch, node, port) for node in range(1, place.nodes)]
    try:
        yield
    finally:
        for shell in shells:
            try:
                shell.wait(launch.stop_timeout)
            except subprocess.TimeoutExpired:
                shell.kill()
                shell.wait()


def _start(place: Place, launch: Launch, node: int, port: int) -> subprocess.Popen[bytes]:
    variables = [
        f"export {name}={shlex.quote(value)}\n"
        for name, value in os.environ.items()
        if name.startswith(PASSED_ON) and name.isidentifier()
    ]
    agent = [sys.executable, "-m", "blip.training.launch.follow"]
    where = [place.master, str(port), str(node), str(place.nodes), str(launch.start_timeout)]
    command = (
        f"cd {shlex.quote(str(Path.cwd()))} && exec {shlex.join(['sh', '-c', READ, 'sh', *agent, *where])}"
    )
    shell = [*shlex.split(launch.remote_shell), place.host(node), command]
    # A session of its own: Ctrl-C is for node 0 alone, which has the others save and stop.
    started = subprocess.Popen(shell, stdin=subprocess.PIPE, start_new_session=True)
    assert started.stdin is not None
    with suppress(BrokenPipeError), started.stdin as given:  # a shell that fails at once says why
        given.write("".join(variables).encode())
    return started
