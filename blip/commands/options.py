"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from blip.errors import BadArguments

OPTIONS = "options"  # where an error says that the settings of a command stand
Workers = Annotated[
    int | None, typer.Option(min=1, envvar="BLIP_WORKERS", help="Processes; all cores when not given.")
]
Dask = Annotated[
    str | None, typer.Option(envvar="BLIP_DASK", help="Scheduler of a Dask cluster, as tcp://host:8786.")
]
Recipe = Annotated[str | None, typer.Option(help="A file of infra/recipes laid over params.yaml.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a setting; repeatable.")
]
Launcher = Annotated[
    str | None,
    typer.Option(
        help="Who starts the nodes of a training run: auto, local, hostfile, slurm, kubernetes, environment."
    ),
]
Hostfile = Annotated[str | None, typer.Option(help="Nodes of a training run, a line `NAME slots=N` each.")]
NodeRank = Annotated[
    int | None, typer.Option(min=0, help="This node's line in the hostfile, where each is started by hand.")
]


def require_new(directory: Path) -> None:
    """Raises BadArguments if there is a file or folder of that name, which a command would write over."""
    if directory.exists():
        raise BadArguments(f"{directory} exists already; name another folder, or remove it first")
