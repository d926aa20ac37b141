"""The command that measures: `blip bench {step,caption,rerank,filter,loader,trainer}`."""

from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from blip.commands.opening import Device, chosen_device
from blip.commands.output import JsonFlag, columns, show
from blip.errors import BadArguments

if TYPE_CHECKING:
    from blip.bench import loader, trainer
    from blip.bench.run import Comparison, Side
    from blip.bench.workload import Setup

app = typer.Typer()
UNITS = {"step": "pairs/s", "caption": "captions/s", "rerank": "pairs/s", "filter": "pairs/s"}
# Batch and pixels of each
USUAL = {
    "step": (16, 224), "caption": (16, 384), "rerank": (64, 224), "filter": (16, 384), "loader": (64, 224),
    "trainer": (8, 224),
}  # fmt: skip
TEXTS = {"rerank": 64, "filter": 4}


@app.command(rich_help_panel="Operations")
def bench(
    work: Annotated[
        Literal["step", "caption", "rerank", "filter", "loader", "trainer"],
        typer.Argument(
            metavar="WORK",
            help="A pre-training step, captions, matching scores of encoded images with many texts, of images with a "
            "few, training pictures from shards to batches, or what the trainer adds to a bare step.",
        ),
    ],
    *,
    size: Annotated[
        Literal["tiny", "base", "large"], typer.Option(help="tiny is the demo's network.")
    ] = "base",
    batch: Annotated[int | None, typer.Option(min=2, help="Images; 16, or 64 for rerank and loader.")] = None,
    image_size: Annotated[
        int | None, typer.Option(min=16, help="Pixels a side; 224, or 384 for caption and filter.")
    ] = None,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="What both compute in.")] = "float32",
    device: Device = "auto",
    beams: Annotated[int, typer.Option(min=1, help="Beams of caption; 1 is greedy.")] = 1,
    decoding: Annotated[
        Literal["beam", "nucleus"], typer.Option(help="Of caption; nucleus samples with top-p 0.9.")
    ] = "beam",
    captions: Annotated[int, typer.Option(min=1, help="To sample for each image.")] = 1,
    free_lengths: Annotated[
        bool, typer.Option(help="Sampled captions end where they end, not all at the longest.")
    ] = False,
    texts: Annotated[
        int | None, typer.Option(min=1, help="Texts of each image: 64 for rerank, 4 for filter.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Turns; the median counts.")] = 3,
    against: Annotated[
        Literal["transformers", "nothing"], typer.Option(help="The other side.")
    ] = "transformers",
    memory: Annotated[
        bool, typer.Option(help="Measure peak memory, each side in a process of its own.")
    ] = True,
    cpu_time: Annotated[
        bool, typer.Option(help="Count the processor's seconds; with OMP_NUM_THREADS=1, on a busy machine.")
    ] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile our blocks and layers, as `training.compile` does.")
    ] = False,
    zero_stage: Annotated[int, typer.Option(min=0, max=3, help="Of the trainer.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Time a piece of work here, by turns with `transformers`: same weights, inputs and type.

    The loader's is by turns with bare decoding and with a WebDataset pipeline, on one core; the trainer's with forward,
    backward and optimiser alone.

    Example: [bold]blip bench step --size base --batch 16[/bold]
    """
    check_decoding(decoding, beams, captions, free_lengths)
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

    setup = Setup(
        size, batch, image_size, dtype, where, beams=beams, texts=texts or TEXTS.get(work, 1), decoding=decoding,
        captions=captions, free_lengths=free_lengths, compiled=compiled,
    )  # fmt: skip
    if work == "trainer":
        from blip.bench.trainer import measure as measure_trainer

        overhead = measure_trainer(setup, repeats, zero_stage, cpu_time)
        show(trainer_figures(overhead), as_json, trainer_lines(overhead))
        return
    result = compare(work, setup, repeats, against == "transformers", memory, cpu_time)
    show(figures(result), as_json, lines(result))


def check_decoding(decoding: str, beams: int, captions: int, free_lengths: bool) -> None:
    """Raises BadArguments for options that do not go together."""
    if decoding == "nucleus" and beams > 1:
        raise BadArguments(f"--beams {beams}: nucleus sampling has none; leave it out")
    if decoding == "beam" and (captions > 1 or free_lengths):
        raise BadArguments("--captions and --free-lengths are of sampled captions: add --decoding nucleus")


def figures(result: "Comparison") -> dict[str, Any]:
    """Everything that was measured, for programs."""
    sides = {
        name: {
            **asdict(side),
            "median_seconds": side.median,
            "items_per_second": result.items / side.median,
            "tokens_per_second": side.tokens_per_second,
        }
        for name, side in result.sides.items()
    }
    return {**asdict(result), "sides": sides, "memory_ratio": result.memory_ratio}


def lines(result: "Comparison") -> list[str]:
    """A table for people."""
    setup = result.setup
    what = f"{result.work}, {setup.size}, batch {setup.batch}, {setup.image_size} px, {setup.dtype}"
    what += f", {_decoding(setup)}" if result.work == "caption" else ""
    what += f", {setup.texts} texts each" if result.work in TEXTS else ""
    what += ", ours compiled" if setup.compiled else ""
    rows = [("", "seconds", UNITS[result.work], "TFLOP", "of matmul peak", "peak memory")]
    rows += [_row(name, side, result) for name, side in result.sides.items()]
    end = []
    if result.ratio:
        end = [f"{result.ratio:.2f}x as fast as transformers"]
        if result.memory_ratio:
            end[0] += f", {result.memory_ratio:.2f}x its peak memory"
    end += [
        f"{name}: {side.tokens_per_second:.1f} tokens/s"
        for name, side in result.sides.items()
        if side.tokens_per_second
    ]
    peak = f"matmul peak {result.peak_flops / 1e12:.2f} TFLOP/s"
    return [what, f"{result.machine}, {result.versions}, {peak}", "", *columns(rows), "", *end]


def _decoding(setup: "Setup") -> str:
    if setup.decoding == "beam":
        return f"{setup.beams} beams"
    lengths = "free lengths" if setup.free_lengths else "all of one length"
    return f"nucleus sampling, {setup.captions} each, {lengths}"


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


def trainer_figures(found: "trainer.Overhead") -> dict[str, Any]:
    """What was measured of the trainer, for programs."""
    shares = {"of_step": found.of_step, "of_logging": found.of_logging, "share": found.share}
    return {"work": "trainer", **asdict(found), **shares}


def trainer_lines(found: "trainer.Overhead") -> list[str]:
    """A table of the trainer for people."""
    from blip.bench.trainer import USUAL_LOG_EVERY

    setup = found.setup
    what = f"trainer, {setup.size}, batch {setup.batch}, {setup.image_size} px, {setup.dtype}, "
    what += f"ZeRO {found.zero_stage}, one rank" + (", both compiled" if setup.compiled else "")
    logging, beside = zip(*found.logging, strict=True)
    rows = [
        ("", "trainer", "bare step", "adds"),
        ("step", f"{median(found.trainer):.3f} s", f"{median(found.bare):.3f} s", f"{found.of_step:.1%}"),
        ("step that logs", f"{median(logging):.3f} s", f"{median(beside):.3f} s", f"{found.of_logging:.1%}"),
    ]
    end = f"{found.share:.1%} of a run that logs every {USUAL_LOG_EVERY} steps"
    return [what, f"{found.machine}, {found.versions}", "", *columns(rows), "", end]


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
