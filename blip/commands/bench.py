"""The command that measures: `blip bench {step,caption,rerank,loader}`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from blip.commands.opening import Device, chosen_device
from blip.commands.output import JsonFlag, columns, show

if TYPE_CHECKING:
    from blip.bench import loader
    from blip.bench.run import Comparison, Side

app = typer.Typer()
UNITS = {"step": "pairs/s", "caption": "images/s", "rerank": "pairs/s"}
USUAL = {"step": (16, 224), "caption": (16, 384), "rerank": (64, 224), "loader": (64, 224)}  # batch, pixels


@app.command(rich_help_panel="Operations")
def bench(
    work: Annotated[
        Literal["step", "caption", "rerank", "loader"],
        typer.Argument(
            help="A pre-training step, captions, matching scores of images with many texts, or training pictures from "
            "shards to batches."
        ),
    ],
    *,
    size: Annotated[
        Literal["tiny", "base", "large"], typer.Option(help="tiny is the demo's network.")
    ] = "base",
    batch: Annotated[int | None, typer.Option(min=2, help="Images; 16, or 64 for rerank and loader.")] = None,
    image_size: Annotated[
        int | None, typer.Option(min=16, help="Pixels a side; 224, or 384 for caption.")
    ] = None,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="What both compute in.")] = "float32",
    device: Device = "auto",
    beams: Annotated[int, typer.Option(min=1, help="Beams of caption; 1 is greedy.")] = 1,
    texts: Annotated[int, typer.Option(min=1, help="Texts of each image of rerank.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Turns; the median counts.")] = 3,
    against: Annotated[
        Literal["transformers", "nothing"], typer.Option(help="The other side.")
    ] = "transformers",
    memory: Annotated[
        bool, typer.Option(help="Measure peak memory, each side in a process of its own.")
    ] = True,
    as_json: JsonFlag = False,
) -> None:
    """Time a piece of work here, by turns with `transformers`: same weights, inputs and type.

    The loader's is by turns with bare decoding and with a WebDataset pipeline, on one core.

    Example: [bold]blip bench step --size base --batch 16[/bold]
    """
    usual_batch, usual_size = USUAL[work]
    batch, image_size = batch or usual_batch, image_size or usual_size
    if work == "loader":
        from blip.bench.loader import measure

        found = measure(batch, image_size, repeats)
        show(loader_figures(found), as_json, loader_lines(found))
        return
    where = chosen_device(device)
    from blip.bench.run import compare
    from blip.bench.workload import Setup

    setup = Setup(size, batch, image_size, dtype, where, beams=beams, texts=texts)
    result = compare(work, setup, repeats, against == "transformers", memory)
    show(figures(result), as_json, lines(result))


def figures(result: "Comparison") -> dict[str, Any]:
    """Everything that was measured, for programs."""
    sides = {
        name: {**asdict(side), "median_seconds": side.median, "items_per_second": result.items / side.median}
        for name, side in result.sides.items()
    }
    return {**asdict(result), "sides": sides, "memory_ratio": result.memory_ratio}


def lines(result: "Comparison") -> list[str]:
    """A table for people."""
    setup = result.setup
    what = f"{result.work}, {setup.size}, batch {setup.batch}, {setup.image_size} px, {setup.dtype}"
    what += f", {setup.beams} beams" if result.work == "caption" else ""
    what += f", {setup.texts} texts each" if result.work == "rerank" else ""
    rows = [("", "seconds", UNITS[result.work], "TFLOP", "of matmul peak", "peak memory")]
    rows += [_row(name, side, result) for name, side in result.sides.items()]
    end = []
    if result.ratio:
        end = [f"{result.ratio:.2f}x as fast as transformers"]
        if result.memory_ratio:
            end[0] += f", {result.memory_ratio:.2f}x its peak memory"
    peak = f"matmul peak {result.peak_flops / 1e12:.2f} TFLOP/s"
    return [what, f"{result.machine}, {result.versions}, {peak}", "", *columns(rows), "", *end]


def loader_figures(found: "loader.Figures") -> dict[str, Any]:
    """What was measured of the loader, for programs."""
    rates = {side: found.rate(side) for side in found.seconds}
    return {"work": "loader", **asdict(found), "images_per_second_and_core": rates}


def loader_lines(found: "loader.Figures") -> list[str]:
    """A table of the loader for people."""
    from blip.bench.loader import SIDES

    what = f"loader, batch {found.batch}, JPEGs of 340 x 256 px and {found.bytes_each / 1000:.1f} kB"
    what += f" to {found.image_size} px"
    rows = [("", "images/s/core", "us an image", "ours is")]
    for side, name in SIDES.items():
        rate = found.rate(side)
        ratio = f"{found.ratios[side]:.2f}x as fast" if side in found.ratios else ""
        rows.append((name, f"{rate:,.0f}", f"{1e6 / rate:.0f}", ratio))
    return [what, f"{found.machine}, one thread, {found.versions}", "", *columns(rows)]


def _row(name: str, side: "Side", result: "Comparison") -> tuple[str, ...]:
    memory = "" if side.peak_bytes is None else f"{side.peak_bytes / 2**30:.2f} GiB"
    share = side.flops / side.median / result.peak_flops
    rate = result.items / side.median
    return (
        name,
        f"{side.median:.3f}",
        f"{rate:.2f}",
        f"{side.flops / 1e12:.3f}",
        f"{100 * share:.0f} %",
        memory,
    )
