"""The command that turns a public `.pth` checkpoint into a model directory."""

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blip.commands.options import require_new
from blip.commands.output import JsonFlag, columns, show

if TYPE_CHECKING:
    from blip.model.public import PublicModel

app = typer.Typer()
PANEL = "Models"
IN_A_LAYER = re.compile(r"^(.*\.(?:layer|blocks))\.\d+\.(\w+)\..*$")


@app.command("import", rich_help_panel=PANEL)
def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A public BLIP checkpoint, as model_base_retrieval_coco.pth."),
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The model directory to write.")],
    *,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Pixels a side; the file's own when not given.")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="bert-base-uncased: its vocab.txt or directory. Else from FILE's folder, or the hub."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Convert a public BLIP checkpoint to a model directory, which opens here and in transformers.

    To work on with it: `blip export` writes any model, these files too, with a card, to be given away.

    Example: [bold]blip import model_base_retrieval_coco.pth models/coco --tokenizer vocab.txt[/bold]
    """
    from blip.data.vocabulary import find_tokenizer
    from blip.model.public import open_public
    from blip.serving.export import Opened, save

    require_new(directory)
    opened = open_public(file, image_size)
    found = find_tokenizer(opened.network.config.text.vocabulary, tokenizer, file.parent)
    save(Opened(opened.network, found, opened.card), directory)
    figures = {"file": str(file), "directory": str(directory), **describe(opened)}
    show(figures, as_json, [f"{file} -> {directory}", *(f"  {line}" for line in columns(lines(figures)))])


def describe(opened: "PublicModel") -> dict[str, Any]:
    """Sizes and report of an opened checkpoint."""
    network, report = opened.network, opened.report
    vision = network.config.vision
    return {
        "kind": report.kind,
        "vision": f"{vision.layers} layers, {vision.width} wide, patches of {vision.patch_size} px",
        "image_size": vision.image_size,
        "image_size_of_file": report.image_size,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "missing": list(report.missing),
        "unexpected": list(report.unexpected),
        "dropped": report.dropped,
        "notes": list(report.notes),
    }


def lines(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for a person: the tensors of a module, in all layers, are one line with their number."""
    size, own = figures["image_size"], figures["image_size_of_file"]
    interpolated = "" if size == own else f", positions interpolated from {own} px"
    rows = [
        ("kind", figures["kind"]),
        ("vision tower", figures["vision"]),
        ("images", f"{size} px{interpolated}"),
        ("parameters", f"{figures['parameters']:,}"),
    ]
    for what, names in (("not in it, initial values", "missing"), ("unexpected, not used", "unexpected")):
        found = Counter(module(name) for name in figures[names])
        rows += [(what, f"{name} ({count})") for name, count in found.items()] or [(what, "none")]
    rows += [("dropped on purpose", f"{what} ({count})") for what, count in figures["dropped"].items()]
    return rows + [("note", note) for note in figures["notes"]]


def module(name: str) -> str:
    """The module that a tensor is of, the same for all layers: ``text_encoder.encoder.layer.*.attention``."""
    if found := IN_A_LAYER.match(name):
        return f"{found[1]}.*.{found[2]}"
    return ".".join(name.removesuffix(".weight").removesuffix(".bias").split(".")[:2])
