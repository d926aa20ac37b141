"""The command that measures models side by side: `blip compare`."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from blip.commands.opening import Device, chosen_device, open_either
from blip.commands.output import JsonFlag, columns, show
from blip.errors import BadArguments, BlipError
from blip.spelling import plain

if TYPE_CHECKING:
    from blip.data.pairs import PairsDataset
    from blip.data.sample import Sample
    from blip.report.comparison import Comparison, Side
    from blip.tasks.comparison import How
    from blip.tasks.difference import Compared

app = typer.Typer()
TEMPLATES = ["{}", "a picture of {}", "a photo of {}"]


@app.command(rich_help_panel="Models")
def compare(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS", help="A pairs dataset, as data/datasets/test.")],
    *,
    models: Annotated[
        list[str],
        typer.Option(
            "--model",
            metavar="[NAME=]M",
            help="A BLIP (directory, .pth, hub id, models:/NAME@ALIAS) or a CLIP of transformers; two or more. "
            "The others are held against the first.",
        ),
    ],
    rerank: Annotated[
        int, typer.Option(min=0, help="Best of each query that a BLIP's matching head scores again; 0: none.")
    ] = 128,
    rerank_by: Annotated[
        Literal["published", "log_odds"],
        typer.Option(help="The head's logit + the cosine, or the sum of both log-odds."),
    ] = "published",
    classes: Annotated[
        bool,
        typer.Option(
            "--classes",
            help="Classify too: among the column truth_label, or else captions that pictures share.",
        ),
    ] = False,
    templates: Annotated[
        list[str] | None,
        typer.Option("--template", help=f"Text for a class name, which goes where {{}} is; {TEMPLATES}."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 64,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a page, a picture, a table of the queries, and the figures."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure models on the same pictures and captions: BLIP or CLIP, what they find, what it costs, how sure it is.

    Retrieval both ways by the embeddings, for a BLIP re-ranked by its matching head as well. Differences come with 95%
    intervals by a paired bootstrap of the pictures. Texts are read as BLIP cleans them: lower case, 30 words. What
    validation set aside beside a dataset is left out.

    Example: [bold]blip compare pairs/test --model models/retrieval --model clip=openai/clip-dir --out compared[/bold]
    """
    from blip.data.pairs import PairsDataset
    from blip.model.device import machine
    from blip.report.comparison import Comparison
    from blip.report.comparison_page import write
    from blip.tasks.comparison import How
    from blip.tasks.inputs import labels_of

    sources = read_models(models)
    how = How(batch_size, rerank, rerank_by, templates or TEMPLATES)
    check(how, out)
    dataset = PairsDataset.open(pairs)
    check_captions(dataset)
    labels = labels_of(dataset) if classes else None
    if classes and not labels:
        raise BadArguments(f"--classes: no picture of {pairs} has a label (truth.csv, docs/data.md)")
    sides = {name: measured(name, source, device, pairs, how, labels) for name, source in sources.items()}
    found = Comparison(pairs, machine(chosen_device(device)), how, sides)
    if out:
        write(found, dataset, out)
    show(found.values(), as_json, [*lines(found), *([f"{out}/index.html"] if out else [])])


def read_models(models: Sequence[str]) -> dict[str, str]:
    """What is compared, by its name: that before ``=``, or the last part of what names the model.

    Raises:
        BadArguments: there is one model only, or two have one name.
    """
    if len(models) < 2:
        raise BadArguments(
            f"--model: {len(models)} to compare; give two or more, as --model models/retrieval --model clip=DIR"
        )
    found: dict[str, str] = {}
    for text in models:
        name, equals, source = text.partition("=")
        if not equals or Path(text).exists():
            name, source = Path(text).name.removesuffix(".pth"), text
        if not name or not source:
            raise BadArguments(f"--model {text}: write NAME=M, or M alone")
        if name in found:
            raise BadArguments(
                f"--model {text}: {found[name]} is called {name} too; write NAME=M for one of them"
            )
        found[name] = source
    return found


def check(how: "How", out: Path | None) -> None:
    """Raises BadArguments for what would end in nothing, before a model is opened."""
    if bare := [template for template in how.templates if "{}" not in template]:
        raise BadArguments(f"--template {bare[0]!r} has no {{}}, where the class name goes")
    if out and out.exists():
        raise BadArguments(f"{out} exists already; name another folder, or remove it first")


def check_captions(dataset: "PairsDataset") -> None:
    """Raises BlipError for a dataset in which there is nothing to find."""
    from blip.data.pairs import set_aside

    if not any(dataset.texts(set_aside(dataset.path.resolve()))):
        raise BlipError(
            f"{dataset.path} has no captions, by which pictures are found and which are found for them; "
            f"`blip inspect {dataset.path}` shows what it holds"
        )


def measured(
    name: str, source: str, device: str, pairs: Path, how: "How", labels: dict[str, str] | None
) -> "Side":
    """A model on the dataset; it is gone afterwards."""
    from blip.model.api import Blip
    from blip.report.comparison import Side
    from blip.tasks.comparison import evaluate

    opened = open_either(source, device)
    kind, has_head = ("BLIP", opened.can_match) if isinstance(opened, Blip) else ("CLIP", False)
    print(plain(f"measuring {name}, a {kind}"), file=sys.stderr)
    own = how if has_head else replace(how, rerank=0)
    return Side(source, kind, evaluate(opened, pictures(pairs), own, labels))


def pictures(pairs: Path) -> "Iterator[Sample]":
    """The samples without what validation set aside. Raises BlipError for a clip."""
    from blip.tasks.inputs import samples_of

    for sample in samples_of(pairs.resolve()):
        if sample.is_video:
            raise BlipError(f"{pairs}: {sample.key} is a clip; pictures are compared")
        yield sample


def lines(found: "Comparison") -> list[str]:
    """Tables for people: what the models find, what they cost, how far they are from the first."""
    parts = [_results(found), _costs(found), *(_differences(found, one) for one in found.compared)]
    said = [f"{found.dataset}: {found.headline}; {found.machine}", *(f"{cut}." for cut in found.cut())]
    return [*said, *(line for part in parts for line in ("", *part))]


def _results(found: "Comparison") -> list[str]:
    from blip.report.comparison import HEADS, named

    above = [way if at in ("R@1", "top 1") else "" for way, at in map(named, found.measures)]
    rows: list[Sequence[str]] = [("", "", *above), ("in %", "", *(named(one)[1] for one in found.measures))]
    for name, head, measures in found.rows:
        shares = [f"{100 * measures[one]:.1f}" if one in measures else "-" for one in found.measures]
        rows.append((name, HEADS[head], *shares))
    return columns(rows)


def _costs(found: "Comparison") -> list[str]:
    rows: list[Sequence[str]] = [
        ("", "kind", "parameters", "image size", "images/s", "texts/s", "re-ranking")
    ]
    for name, side in found.sides.items():
        cost = side.found.cost
        again = "-" if cost.rerank_seconds is None else f"{cost.rerank_seconds:.1f} s"
        speeds = (f"{cost.images_per_second:,.1f}", f"{cost.texts_per_second:,.1f}")
        rows.append((name, side.kind, f"{cost.parameters:,}", f"{cost.image_size} px", *speeds, again))
    return columns(rows)


def _differences(found: "Comparison", one: "Compared") -> list[str]:
    from blip.report.comparison import title_of

    rows: list[Sequence[str]] = [
        ("", "points", "95% interval", "", f"right by {found.first} alone", f"by {one.other} alone")
    ]
    for this in one.differences:
        gain, low, high = (f"{100 * value:+.1f}" for value in (this.gain, this.low, this.high))
        verdict = "within chance" if this.within_chance else ""
        alone: list[Any] = [this.only_first, this.only_other]
        rows.append((title_of(this.measure), gain, f"{low} to {high}", verdict, *map(str, alone)))
    return [found.between(one), *columns(rows)]
