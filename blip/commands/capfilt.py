"""Command for CapFilt: a dataset with doubtful texts in, one with captions that match out."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from blip.commands.opening import Device, chosen_device
from blip.commands.output import JsonFlag, columns, show
from blip.errors import BadArguments

app = typer.Typer()
PANEL = "Data"


@app.command(rich_help_panel=PANEL)
def capfilt(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The pairs dataset with doubtful texts.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The pairs dataset to write.")],
    *,
    captioner: Annotated[str, typer.Option(help="Model that writes captions for each image.")] = (
        "models:/blip-captioner@champion"
    ),
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="Model that drops texts which do not match; several decide together."),
    ] = None,
    human: Annotated[
        Path | None, typer.Option(help="A pairs dataset with good texts, which passes through.")
    ] = None,
    captions_per_image: Annotated[int, typer.Option(min=1, help="Synthetic captions to write.")] = 1,
    decoding: Annotated[Literal["nucleus", "beam"], typer.Option(help="How they are written.")] = "nucleus",
    top_p: Annotated[float, typer.Option(min=0.01, max=1, help="Of nucleus sampling.")] = 0.9,
    min_tokens: Annotated[int, typer.Option(min=1)] = 5,
    max_tokens: Annotated[int, typer.Option(min=2)] = 20,
    head: Annotated[
        Literal["itm", "itc", "both"], typer.Option(help="Of the filter, by which it decides.")
    ] = "itm",
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Probability a text must reach.")] = 0.5,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the sampling; a caption depends on it and its key.")] = 0,
    device: Device = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, envvar="BLIP_WORKERS", help="Processes; all cores when not given.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(envvar="BLIP_DASK", help="Scheduler of a Dask cluster, as tcp://host:8786.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bootstrap a dataset: synthetic captions for every image, and only the texts that match it (CapFilt).

    Ended before it is ready, the same command goes on where it was. On several GPUs the DeepSpeed launcher runs it:
    each rank does its share of the shards.

    Example: [bold]blip capfilt noisy/ cleaned/ --captioner models/captioner --filter models/filter[/bold]
    """
    from blip.capfilt.bootstrap import AUDIT_FILE, Ranks, bootstrap
    from blip.capfilt.shard import Models, Pairs
    from blip.config import CapFilt
    from blip.data.jobs import open_pool
    from blip.tracking.registry import resolve

    if target.exists():
        raise BadArguments(f"{target} exists already; name another folder, or remove it first")
    if decoding == "beam" and captions_per_image > 1:
        raise BadArguments(
            "--decoding beam writes one caption an image; use nucleus for --captions-per-image"
        )
    settings = CapFilt(
        decoding=decoding, captions_per_image=captions_per_image, top_p=top_p, max_tokens=max_tokens,
        min_tokens=min_tokens, head=head, threshold=threshold, batch_size=batch_size,
    )  # fmt: skip
    names = filters or ["models:/blip-filter@champion"]
    chosen, ranks = chosen_device(device), Ranks.of_environment()
    models = Models(resolve(captioner), tuple(map(resolve, names)), chosen)
    alone = chosen != "cpu" or ranks.world > 1
    with open_pool(1 if alone else workers, dask) as pool:
        pairs = Pairs(human) if human else None
        tally = bootstrap(Pairs(source), pairs, target, models, settings, seed, pool, ranks)
    if ranks.rank == 0:
        counts: dict[str, Any] = {**vars(tally), "audit": str(target / AUDIT_FILE)}
        rows = [(name.replace("_", " "), str(value)) for name, value in counts.items()]
        show(counts, as_json, [str(target), *(f"  {line}" for line in columns(rows))])
