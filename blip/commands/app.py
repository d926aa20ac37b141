"""The command that opens a page in the browser, on which models are tried."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blip.commands.opening import Device, chosen_device, leave_out
from blip.commands.output import columns
from blip.errors import BlipError
from blip.spelling import plain

if TYPE_CHECKING:
    from gradio import Blocks

    from blip.serving.service import Role, Service

app = typer.Typer()
EXAMPLES = 8
TRAINED: "dict[Role, str]" = {"caption": "captioning", "match": "retrieval", "answer": "vqa"}
OPEN = (
    "note: --host {host} lets other machines open the page, and it asks for no password: whoever reaches this one can "
    "use the models and see the pictures that are searched"
)


@app.command("app", rich_help_panel="Models")
def app_(
    *,
    caption: Annotated[
        str | None,
        typer.Option(
            metavar="M", help="Model that captions: a directory, .pth, hub id or models:/NAME@ALIAS."
        ),
    ] = None,
    match: Annotated[
        str | None, typer.Option(metavar="M", help="Model that matches, explains, searches and classifies.")
    ] = None,
    answer: Annotated[str | None, typer.Option(metavar="M", help="Model that answers questions.")] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder or pairs dataset to search; in a project its test data."),
    ] = None,
    device: Device = "auto",
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others than this one let other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that is free.")] = 7860,
) -> None:
    """Try models on a page in the browser: caption, match, ask, explain, search, classify. Ctrl-C ends it.

    For what is not named it takes models/ of this folder, or else the champions of its registry.

    Example: [bold]blip app --caption models/captioning --match models/retrieval --pictures photos/[/bold]
    """
    from blip.config.places import DATASETS
    from blip.serving.server import is_loopback, serve
    from blip.serving.service import MAX_BYTES, Service

    names = models_for({"caption": caption, "match": match, "answer": answer})
    own = DATASETS / "test"
    searched = pictures or (own if own.is_dir() else None)
    if pictures and "match" not in names:
        raise BlipError(f"--pictures {pictures}: there is no model that searches; name one with --match")
    if not is_loopback(host):
        print(OPEN.format(host=host), file=sys.stderr)

    def build(folder: Path) -> "Blocks":
        from blip.model.device import use_own_cores
        from blip.serving.app import Page, build
        from blip.serving.examples import asked, captioned

        use_own_cores()
        print(f"opening {', '.join(dict.fromkeys(names.values()))} ...", flush=True)
        service = Service.open(names, chosen_device(device), searched, leave_out)
        for line in columns(summary(service)):
            print(f"  {plain(line)}", flush=True)
        return build(Page(service, captioned(folder, EXAMPLES), asked(folder, EXAMPLES)))

    serve(build, host, port, MAX_BYTES, lambda url: print(f"{url}   (Ctrl-C ends it)", flush=True))
    print("\nthe page is closed")


def models_for(named: "dict[Role, str | None]") -> "dict[Role, str]":
    """A model for each role that one is named for, or that the project has one for.

    Raises:
        BlipError: there is none at all.
    """
    from blip.config.places import MODELS
    from blip.tracking import registry

    found: dict[Role, str] = {}
    for role, name in named.items():
        own = MODELS / TRAINED[role]
        if name:
            found[role] = name
        elif (own / "config.json").is_file():
            found[role] = str(own)
        elif own.is_dir():  # empty: the project leaves the task out
            continue
        elif registry.is_here() and registry.champion(f"blip-{TRAINED[role]}"):
            found[role] = f"{registry.SCHEME}blip-{TRAINED[role]}@{registry.CHAMPION}"
    if not found:
        raise BlipError(
            "there is no model here: name one with --caption, --match or --answer, or go to a project's folder"
        )
    return found


def summary(service: "Service") -> list[tuple[str, str, str]]:
    """What each model is there for, what it is, and where."""
    rows = [
        (role, served.name, f"{served.parameters / 1e6:.1f}M parameters on {served.model.device}")
        for role, served in service.models.items()
    ]
    if service.collection:
        rows.append(("search", str(service.collection.source), service.collection.extent))
    return rows
