"""The command that draws what CapFilt did to a dataset, as a page."""

from pathlib import Path
from typing import Annotated

import typer

from blip.commands.output import JsonFlag, show

app = typer.Typer()
PANEL = "Data"


@app.command(rich_help_panel=PANEL)
def gallery(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The pairs dataset that was bootstrapped.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="What `blip capfilt` made of it.")],
    *,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("gallery.html"),
    per_group: Annotated[int, typer.Option(min=1, help="Pictures to show of each outcome.")] = 12,
    by: Annotated[
        str | None, typer.Option(help="Column of SRC's metadata that tells the sources, as url.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of pictures.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """A page about a bootstrapped dataset: what was kept, why not, of which source, with pictures.

    One HTML file without scripts or outside resources.

    Example: [bold]blip gallery pairs/noisy pairs/clean --out gallery.html[/bold]
    """
    from blip.atomic import write_text
    from blip.report.bootstrapping import Bootstrapping

    made = Bootstrapping.open(source, target, seed=seed, shown=per_group, by=by)
    html = made.html()
    write_text(out, html)
    lines = [f"{made.headline}.", f"{out} ({len(html) / 1e6:.1f} MB)"]
    show({**made.counts, "page": str(out)}, as_json, lines)
