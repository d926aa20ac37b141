"""The command that writes a model as a directory to give away."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from blip.commands.options import require_new
from blip.commands.output import JsonFlag, columns, show

app = typer.Typer()
PANEL = "Models"


@app.command(rich_help_panel=PANEL)
def export(
    model: Annotated[
        str,
        typer.Argument(metavar="M", help="A model directory, a .pth file, a hub id, or models:/NAME@ALIAS."),
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory to write.")],
    *,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Type of the stored weights.")
    ] = "float32",
    as_json: JsonFlag = False,
) -> None:
    """Write any model as a directory to give away, with a README.md that says what is known of it.

    It opens in blip.load and in transformers. (`blip import` converts a public .pth file alone, to work on with it:
    other picture sizes, another tokenizer, a report of its tensors, and no card.)

    Example: [bold]blip export models:/blip-retrieval@champion ship/retrieval --dtype bfloat16[/bold]
    """
    require_new(directory)
    from blip.serving.export import export as write

    made = write(model, directory, dtype)
    fewer = f"; {made.saved / 1e6:.1f} MB fewer than in float32" if made.saved else ""
    rows = [("source", str(made.source)), ("weights", f"{made.bytes / 1e6:.1f} MB in {dtype}{fewer}")]
    rows += [(name, digest) for name, digest in made.files.items()]
    figures = {"model": model, "directory": str(directory), "dtype": dtype, **vars(made)}
    show(
        figures | {"source": str(made.source)},
        as_json,
        [f"{model} -> {directory}", *(f"  {line}" for line in columns(rows))],
    )
