"""Options that several commands have."""

from typing import Annotated

import typer

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
