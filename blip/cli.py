"""The `blip` command.

    blip --help
    blip stage pretrain --set pretrain.steps=200

Commands import what they need when they run, so that `--help` answers at once. Exit codes: 0 done, 1 failed
with a clear message, 2 bad arguments, 75 preempted with a checkpoint saved.
"""

import os
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from blip.commands import app as page
from blip.commands import (
    bench,
    capfilt,
    comparing,
    data,
    evaluating,
    exporting,
    gallery,
    importing,
    models,
    operations,
)
from blip.commands.options import Changes, Hostfile, Launcher, NodeRank, Recipe
from blip.commands.output import JsonFlag, show
from blip.credentials import shown
from blip.errors import FAILED, BlipError
from blip.room import lacks_room, no_room
from blip.spelling import plain, print_anything

app = typer.Typer(
    help="Noisy image-text data in, vision-language models one can trust out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
INTERRUPTED = 130
CONTINUING = ("ingest", "capfilt")
UNKNOWN_TO_DVC = (
    "note: DVC does not know of this, and the next `dvc repro` puts what it makes itself in its place. Once "
    "params.yaml has the recipe and settings and the stages before it are up to date, `dvc commit -f {name}` keeps it"
)


def say_version(asked: bool) -> None:
    """Print the version and end, where that is asked."""
    if asked:
        print(f"blip {version('blip')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=say_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Noisy image-text data in, vision-language models one can trust out."""


def paragraphs(docstring: str) -> str:
    """The text of a docstring, broken between its paragraphs only: a terminal breaks the lines."""
    return "\n\n".join(" ".join(part.split()) for part in docstring.split("\n\n"))


@app.command(rich_help_panel="Pipeline")
def stage(
    name: Annotated[
        str, typer.Argument(metavar="STAGE", help="A stage of dvc.yaml, as pretrain or evaluate@vqa.")
    ],
    recipe: Recipe = None,
    settings: Changes = None,
    launcher: Launcher = None,
    hostfile: Hostfile = None,
    node_rank: NodeRank = None,
    as_json: JsonFlag = False,
) -> None:
    """Run one stage in this folder; `dvc repro` calls this for whatever is out of date.

    Under DVC it has the settings that the first stage wrote down: an edit of params.yaml waits for the next run.

    Example: [bold]blip stage pretrain --set pretrain.steps=200[/bold]
    """
    from blip.config import WRITTEN, load_settings, read_override, read_written
    from blip.config.dvc_yaml import has_stage
    from blip.config.places import METRICS
    from blip.stages import find_stage, run_stage

    find_stage(name)
    overrides = dict(read_override(text) for text in settings or [])
    launch = {"launcher": launcher, "hostfile": hostfile, "node_rank": node_rank}
    overrides |= {f"launch.{name}": value for name, value in launch.items() if value is not None}
    by_dvc = "DVC_STAGE" in os.environ
    as_recorded = by_dvc and not recipe and not overrides and WRITTEN.is_file()
    chosen = read_written() if as_recorded else load_settings(recipe=recipe, overrides=overrides)
    figures = run_stage(name, chosen)
    lines = []
    if figures:  # of a task that is left out there are none
        lines = [f"{name}: done in {figures['seconds']:.1f} s, {len(figures)} figures in {METRICS}/"]
    show(figures, as_json, lines)
    follows = figures.keys() == {"seconds"}  # a node of several that is not the first
    if not by_dvc and has_stage(name) and not follows:
        print(UNKNOWN_TO_DVC.format(name=name), file=sys.stderr)


for group in (
    data,
    capfilt,
    gallery,
    models,
    evaluating,
    comparing,
    page,
    importing,
    exporting,
    operations,
    bench,
):
    app.add_typer(group.app)
    for command in group.app.registered_commands:
        command.help = paragraphs(command.callback.__doc__ or "")


def main() -> None:
    """The console script: errors that are the user's to read get a message, others keep their traceback."""
    print_anything()
    try:
        app()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # by Ctrl-C
            print(f"\n{stopped(sys.argv[1:])}", file=sys.stderr)
        raise
    except BlipError as error:
        fail(str(error), error.exit_code)
    except Exception as error:
        if lacks_room(error):
            fail(no_room(error), FAILED)
        if isinstance(error, OSError) and error.filename and not isinstance(error, ConnectionError):
            fail(f"{error.filename2 or error.filename}: {error.strerror}", FAILED)
        if (
            type(error).__module__ == "mlflow.exceptions"
        ):  # which quotes the server's address, password and all
            fail(f"MLflow did not do what was asked: {error}", FAILED)
        raise


def stopped(arguments: list[str]) -> str:
    """What became of a command that was ended: some go on where they were."""
    from blip.stages import STAGES

    command, name = (*arguments, "", "")[:2]
    stage = STAGES.get(name) if command == "stage" else None
    continues = command in CONTINUING or (stage is not None and (name in CONTINUING or stage.has_ranks))
    return "stopped; the same command goes on where it was" if continues else "stopped"


def fail(message: str, code: int) -> NoReturn:
    """Print the message on standard error and exit."""
    sys.stdout.flush()
    print(f"error: {plain(shown(message))}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
