"""Commands for those who run it: promote, doctor."""

from typing import Annotated

import typer

from blip.commands.output import JsonFlag, columns, show
from blip.errors import FAILED

app = typer.Typer()
PANEL = "Operations"


@app.command(rich_help_panel=PANEL)
def promote(
    name: Annotated[str, typer.Argument(help="A registered model, as blip-captioning.")],
    version: Annotated[int, typer.Argument(help="The version to make champion.")],
    as_json: JsonFlag = False,
) -> None:
    """Make a version of a registered model its champion, the one that models:/NAME@champion gives.

    Example: [bold]blip promote blip-captioning 2[/bold]
    """
    from blip.tracking.registry import promote as promote_version

    promoted = promote_version(name, version)
    result = {"name": promoted.name, "version": promoted.number, "alias": "champion"}
    show(result, as_json, [f"{promoted.name} version {promoted.number} is champion"])


@app.command(rich_help_panel=PANEL)
def doctor(as_json: JsonFlag = False) -> None:
    """Look at this machine and folder, and say what stands in the way of a run; exit 1 if something does.

    Example: [bold]blip doctor[/bold]
    """
    from blip.doctor import examine

    findings = list(examine())
    rows = [(finding.state, finding.subject, finding.text) for finding in findings]
    show([vars(finding) for finding in findings], as_json, columns(rows))
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(FAILED)
