"""Commands for data: ingest, validate, inspect."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from blip.commands.options import OPTIONS, Changes, Dask, Workers, require_new
from blip.commands.output import JsonFlag, show
from blip.config import SourceKind
from blip.errors import BadArguments, BlipError

app = typer.Typer()
PANEL = "Data"
LISTS = ("download.networks", "download.opt_outs")
FEW_SHARDS = 100  # which one process has read sooner than workers have begun
Dataset = Annotated[Path, typer.Argument(metavar="DIR", help="A pairs dataset, as data/datasets/human.")]


@app.command(rich_help_panel=PANEL)
def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Folders of images, tables, img2dataset's tars (s3://, gs://, az://, sftp://, https:// as well), "
            "lists of URLs, official annotation files, Hugging Face data sets.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="The pairs dataset to write; must not exist yet.")],
    origin: Annotated[
        Literal["human", "web", "synthetic"], typer.Option(help="Who wrote the texts.")
    ] = "human",
    kind: Annotated[SourceKind | None, typer.Option(help="Found out when not given.")] = None,
    role: Annotated[
        Literal["train", "evaluation"], typer.Option(help="Questions to train on must have answers.")
    ] = "train",
    images: Annotated[
        str | None, typer.Option(metavar="DIR", help="The pictures or clips that the files name.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of sources that hold several, as train.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="image|caption=NAME", help="What a table calls its column; repeatable."),
    ] = None,
    grey_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="BLACK WHITE", help="Values of grey pictures of more than 8 bits, as 0 4095."),
    ] = None,
    samples_per_shard: Annotated[int, typer.Option(min=1)] = 1000,
    max_bad_fraction: Annotated[float, typer.Option(min=0, max=1, help="Stop above this share.")] = 0.02,
    settings: Changes = None,
    workers: Workers = None,
    dask: Dask = None,
    as_json: JsonFlag = False,
) -> None:
    """Turn images and texts into a pairs dataset; broken files are set aside, each with its reason.

    Ended before it is ready, the same command goes on where it was. Of several sources each sample's key begins
    with its source's name. --set takes the other settings of section ingest.

    Example: [bold]blip ingest photos/ --out data/datasets/photos --origin web[/bold]

    Example: [bold]blip ingest laion.parquet --out pairs/laion --origin web --set download.connections=256[/bold]

    Example: [bold]blip ingest pairs.csv --images photos/ --column caption=words --out pairs/mine[/bold]

    Example: [bold]blip ingest s3://bucket/laion/ --out pairs/laion --origin web[/bold]

    Example: [bold]blip ingest dataset_coco.json --images coco/ --split train --out pairs/coco[/bold]

    Example: [bold]blip ingest coco/ vg/region_descriptions.json --split train --out pairs/human[/bold]
    """
    from blip.config import Columns, Ingest, Source, is_address, read_section
    from blip.data.jobs import open_pool
    from blip.ingest.ingestion import ingest_dataset
    from blip.ingest.sources.guess import kind_of

    require_new(out)
    limits = {"samples_per_shard": samples_per_shard, "max_bad_fraction": max_bad_fraction}
    chosen = read_section(Ingest, {**limits, "datasets": {}}, lists_in(settings or []))
    columns = Columns.model_validate(named(column or []) or {})
    told = {
        "origin": origin,
        "role": role,
        "images": images,
        "split": split,
        "columns": columns if column else None,
        "grey_range": grey_range,
    }
    places = [source if is_address(source) else str(Path(source)) for source in sources]
    described = [
        read_section(Source, {"source": place, "kind": kind or kind_of(place, columns), **told}, (), OPTIONS)
        for place in places
    ]
    with open_pool(workers, dask) as pool:
        ingest_dataset(described, out, chosen, pool=pool)
    show_dataset(out, as_json)


def named(columns: list[str]) -> dict[str, str] | None:
    """`image=photo` and `caption=words` by what they name."""
    pairs = [column.partition("=") for column in columns]
    for what, _, name in pairs:
        if what not in ("image", "caption") or not name:
            raise BadArguments(f"--column {what}={name}: write image=NAME or caption=NAME")
    return {what: name for what, _, name in pairs} or None


def lists_in(changes: list[str]) -> list[str]:
    """The changes as they are, if those of lists have lists."""
    for change in changes:
        name, _, value = change.partition("=")
        if name in LISTS and not value.strip().startswith(("[", "-")):
            raise BadArguments(f"--set {change}: it takes a list; write --set '{name}=[{value}]'")
    return changes


@app.command(rich_help_panel=PANEL)
def validate(directory: Dataset, as_json: JsonFlag = False) -> None:
    """Compare the shards, table and quarantine of a dataset with its manifest; exit 1 if something is wrong.

    Example: [bold]blip validate data/datasets/human[/bold]
    """
    from blip.data.jobs import HERE, open_pool
    from blip.data.pairs import PairsDataset
    from blip.inspection.verification import verify

    dataset = PairsDataset.open(directory)
    shards = len(dataset.manifest.shards)
    workers = nullcontext(HERE) if shards <= FEW_SHARDS else open_pool()
    with bytes_read(dataset.manifest.bytes) as advance, workers as pool:
        problems = verify(dataset, lambda shard: advance(shard.bytes), pool)
    good = (
        [] if problems else [f"{directory}: {len(dataset)} samples in {shards} shards, as the manifest says"]
    )
    show({"directory": str(directory), "samples": len(dataset), "problems": problems}, as_json, good)
    if problems:
        told = "\n  ".join([f"{directory}: {len(problems)} problem(s):", *problems])
        raise BlipError(f"{told}\n{way_back(directory)}")


def way_back(directory: Path) -> str:
    """How to have a dataset again as it was made."""
    from blip.config.dvc_yaml import maker

    if stage := maker(directory):
        return (
            f"`dvc checkout --force {directory}` puts back what DVC keeps of it; without that, `dvc repro --force "
            f"--single-item {stage}` makes it again"
        )
    return f"get it again, or take {directory} away and ingest its sources again"


@contextmanager
def bytes_read(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr that tells how much of `total` bytes is read; takes the bytes that are new."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    shown = [TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn()]
    with Progress(*shown, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=total)
        yield lambda count: progress.advance(task, count)


@app.command(rich_help_panel=PANEL)
def inspect(
    directory: Dataset,
    *,
    png: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Draw a contact sheet, histograms and what was left out, as PNG."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """What a pairs dataset holds: samples, texts, sizes, origins, and what was left out and why.

    Example: [bold]blip inspect data/datasets/web --png seen/[/bold]
    """
    show_dataset(directory, as_json, png)


def show_dataset(directory: Path, as_json: bool, png: Path | None = None) -> None:
    """Print what is in a dataset, and draw it into the folder `png`."""
    from blip.commands.inspecting import as_value, show_inspection
    from blip.commands.terminal import Terminal
    from blip.inspection.contents import inspect_dataset

    seen = inspect_dataset(directory)
    pictures = []
    if png:
        from blip.report.inspection import write_pictures

        pictures = write_pictures(seen, png)
    if as_json:
        show(as_value(seen, pictures), as_json, [])
    else:
        show_inspection(seen, pictures, Terminal())
