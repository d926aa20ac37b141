"""Commands for CapFilt: clean a dataset, find a filter's threshold, and measure whether it all helps."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import typer

from blip.commands.opening import Device, chosen_device, note_prompt
from blip.commands.options import OPTIONS, Changes, Dask, Recipe, Workers, require_new
from blip.commands.output import JsonFlag, columns, show
from blip.errors import BadArguments

app = typer.Typer()
PANEL = "Data"
FILTER = "models:/blip-filter@champion"
Head = Annotated[Literal["itm", "itc", "both"], typer.Option(help="Of the filter, by which it decides.")]
Views = Annotated[
    list[float] | None,
    typer.Option(
        "--view",
        min=0.1,
        max=1,
        help="Share of each side, about the middle, that the filter sees; several average.",
    ),
]
Likelihood = Annotated[
    float,
    typer.Option(min=0, help="How much it counts how likely the captioner finds a text; 1 is a good start."),
]
Neighbours = Annotated[
    float,
    typer.Option(
        min=0, help="How much it counts that similar pictures of the pool have like texts; 2 is a good start."
    ),
]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        help="Model that drops texts which do not match, the champion of blip-filter when none is given; several "
        "decide together.",
    ),
]
HeldOut = Annotated[Path | None, typer.Option(help="Human pairs, not trained on, to measure a precision on.")]
Dtype = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option(help="What the models multiply in; bfloat16 is much faster on a GPU."),
]
Noise = Annotated[float, typer.Option(min=0, max=0.99, help="Share of wrong texts to assume.")]


@app.command(rich_help_panel=PANEL)
def capfilt(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The pairs dataset with doubtful texts.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The pairs dataset to write.")],
    *,
    captioner: Annotated[str, typer.Option(help="Model that writes captions for each image.")] = (
        "models:/blip-captioner@champion"
    ),
    filters: Filters = None,
    human: Annotated[
        Path | None, typer.Option(help="A pairs dataset with good texts, which passes through.")
    ] = None,
    captions_per_image: Annotated[int, typer.Option(min=1, help="Synthetic captions to write.")] = 1,
    decoding: Annotated[Literal["nucleus", "beam"], typer.Option(help="How they are written.")] = "nucleus",
    top_p: Annotated[float, typer.Option(min=0.01, max=1, help="Of nucleus sampling.")] = 0.9,
    min_tokens: Annotated[int, typer.Option(min=1)] = 5,
    max_tokens: Annotated[int, typer.Option(min=2)] = 20,
    repetition_penalty: Annotated[
        float, typer.Option(min=0.01, help="Of tokens that a caption has already; 1: none, 1.1 as published.")
    ] = 1.0,
    drop_repeats: Annotated[
        bool, typer.Option(help="Drop captions that repeat themselves, whatever the filter says.")
    ] = True,
    head: Head = "itm",
    views: Views = None,
    likelihood: Likelihood = 0.0,
    neighbours: Neighbours = 0.0,
    threshold: Annotated[
        str, typer.Option(help="Probability a text must reach; or keep=0.4, precision=0.95 with --held-out.")
    ] = "0.5",
    synthetic_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="That of synthetic captions; the same.")
    ] = None,
    held_out: HeldOut = None,
    noise: Noise = 0.5,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 64,
    max_bad_fraction: Annotated[
        float, typer.Option(min=0, max=1, help="Of the images, in damaged shards or damaged themselves.")
    ] = 0.02,
    seed: Annotated[int, typer.Option(help="Of the sampling; a caption depends on it and its key.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "float32",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the layers first; it pays for many images on a GPU.")
    ] = False,
    workers: Workers = None,
    dask: Dask = None,
    as_json: JsonFlag = False,
) -> None:
    """Bootstrap a dataset: synthetic captions for every image, and only the texts that match it (CapFilt).

    Ended before it is ready, the same command goes on where it was. On several GPUs the DeepSpeed launcher runs it:
    each rank does its share of the shards. What validation set aside beside a dataset is left out.

    Example: [bold]blip capfilt noisy/ cleaned/ --captioner models/captioner --filter models/filter[/bold]
    """
    from blip.capfilt.bootstrap import AUDIT_FILE, Ranks, bootstrap
    from blip.capfilt.inputs import Models, Order, Pairs
    from blip.config import CapFilt, read_section
    from blip.data.jobs import open_pool
    from blip.tracking.registry import resolve

    cut = read_threshold(threshold)
    check(target, cut, held_out)
    values: dict[str, Any] = {
        "decoding": decoding, "captions_per_image": captions_per_image, "top_p": top_p,
        "max_tokens": max_tokens, "min_tokens": min_tokens, "repetition_penalty": repetition_penalty,
        "drop_repeats": drop_repeats, "head": head, "views": views or [1.0],
        "likelihood": likelihood, "neighbours": neighbours,
        "threshold": cut, "synthetic_threshold": synthetic_threshold, "noise": noise, "batch_size": batch_size,
        "max_bad_fraction": max_bad_fraction,
    }  # fmt: skip
    settings = read_section(CapFilt, values, [], OPTIONS)
    ranks = Ranks.of_environment()
    chosen = ranks.device(chosen_device(device))
    writer = resolve(captioner)
    if ranks.rank == 0:
        note_prompt(writer)
    models = Models.of(writer, map(resolve, filters or [FILTER]), chosen, dtype, compiled)
    alone = chosen != "cpu" or ranks.world > 1
    passing, apart = (Pairs.validated(path) if path else None for path in (human, held_out))
    with open_pool(1 if alone else workers, dask) as pool:
        order = Order(Pairs.validated(source), passing, models, settings, seed, apart)
        tally = bootstrap(order, target, pool, ranks)
    if ranks.rank == 0:
        counts: dict[str, Any] = {**vars(tally), "audit": str(target / AUDIT_FILE)}
        rows = [(name.replace("_", " "), str(value)) for name, value in counts.items()]
        show(counts, as_json, [str(target), *(f"  {line}" for line in columns(rows))])


def check(target: Path, cut: float | dict[str, float], held_out: Path | None) -> None:
    """Raises BadArguments for options that do not go together, before a model is opened."""
    require_new(target)
    if isinstance(cut, dict) and "precision" in cut and held_out is None:
        raise BadArguments(
            "--threshold precision=... is measured on human pairs: name a dataset with --held-out"
        )


def read_threshold(text: str) -> float | dict[str, float]:
    """`0.5`, `keep=0.4` or `precision=0.95`. Raises BadArguments for anything else."""
    name, equals, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = None
    if number is None or (equals and name not in ("keep", "precision")):
        raise BadArguments(f"--threshold {text}: give a probability, keep=SHARE or precision=SHARE")
    if not 0 <= number <= 1 or (equals and number in (0, 1)):
        raise BadArguments(f"--threshold {text}: a probability is from 0 to 1, a share above 0 and below 1")
    return {name: number} if equals else number


@app.command(rich_help_panel=PANEL)
def calibrate(
    held_out: Annotated[
        Path, typer.Argument(metavar="HELD_OUT", help="Human pairs that the filter was not trained on.")
    ],
    *,
    filters: Filters = None,
    human: Annotated[
        Path | None,
        typer.Option(help="Pairs whose texts the embeddings are compared with (heads itc, both)."),
    ] = None,
    head: Head = "itm",
    views: Views = None,
    likelihood: Likelihood = 0.0,
    captioner: Annotated[str | None, typer.Option(help="Model of --likelihood.")] = None,
    neighbours: Neighbours = 0.0,
    web: Annotated[Path | None, typer.Option(help="The pool whose pictures --neighbours asks.")] = None,
    noise: Noise = 0.5,
    png: Annotated[Path | None, typer.Option(help="Draw the curves into this file.")] = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: JsonFlag = False,
) -> None:
    """Precision, recall and kept share of a filter over its threshold, on pairs that are known to match.

    Example: [bold]blip calibrate data/datasets/validation --filter models/filter --png curve.png[/bold]
    """
    from blip.capfilt.calibration import measure
    from blip.capfilt.embedding import embed_pool
    from blip.capfilt.inputs import Models, Pairs
    from blip.capfilt.jury import jury_of
    from blip.commands.curves import draw, table
    from blip.config import CapFilt, read_section
    from blip.tracking.registry import resolve

    check_named(None if head == "itm" else head, human, likelihood, captioner, neighbours, web)
    values: dict[str, Any] = {
        "head": head, "views": views or [1.0], "likelihood": likelihood, "neighbours": neighbours,
    }  # fmt: skip
    how = read_section(CapFilt, values, [], OPTIONS)
    paths = [resolve(path) for path in filters or [FILTER]]
    models = Models.of(resolve(captioner) if captioner else paths[0], paths, chosen_device(device), dtype)
    with TemporaryDirectory() as folder:
        near = Path(folder) / "pool.safetensors" if web and neighbours else None
        if web and near:
            embed_pool(Pairs.validated(web), models, how.batch_size, near)
        jury = jury_of(models, how, Pairs.validated(human) if human else None, near)
    measured = measure(jury, Pairs.validated(held_out))
    if png:
        draw(measured, noise, png)
    title = f"{held_out}: {len(measured.matched):,} pairs, ROC AUC {measured.roc_auc:.3f}; {noise:.0%} wrong assumed"
    points, lines = table(measured, noise)
    show({"roc_auc": measured.roc_auc, "points": points}, as_json, [title, *lines])


def check_named(
    compared: str | None,
    human: Path | None,
    likelihood: float,
    captioner: str | None,
    neighbours: float,
    web: Path | None,
) -> None:
    """Raises BadArguments for an option that another one needs, before a model is opened."""
    if compared and human is None:
        raise BadArguments(f"--head {compared} compares with human texts: name a dataset with --human")
    if likelihood and captioner is None:
        raise BadArguments("--likelihood is of a captioner: name it with --captioner")
    if neighbours and web is None:
        raise BadArguments("--neighbours are pictures of a pool: name its dataset with --web")


@app.command(rich_help_panel=PANEL)
def ablate(
    *,
    arms: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            help="human, noisy, repeated, F, C, C+F, truth; all of them. C+F@2: of two captions a picture.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each arm.")] = 3,
    steps: Annotated[int | None, typer.Option(min=1, help="Of each run; those of params.yaml.")] = None,
    recipe: Recipe = None,
    settings: Changes = None,
    as_json: JsonFlag = False,
) -> None:
    """Does CapFilt help? Pre-train on every arm of the paper's table 1, equally long, and measure on the test data.

    Run it in the project's folder, after `make demo`. Ended before it is ready, it goes on where it was.

    Example: [bold]blip ablate --arm noisy --arm human --arm C+F --seeds 3[/bold]
    """
    from blip.ablation import ARMS, ablate, gains, note, table, write_report
    from blip.config import load_settings, read_override

    chosen = load_settings(recipe=recipe, overrides=dict(map(read_override, settings or [])))
    length = steps or chosen.pretrain_bootstrapped.steps
    if length is None:
        raise BadArguments(
            "--steps: this recipe trains by epochs; say how many steps a run of the ablation has"
        )
    results = ablate(chosen, arms or list(ARMS), range(chosen.seed, chosen.seed + seeds), length)
    folder = write_report(results, length)
    tables = [*columns(table(results)), "", *columns(gains(results)), "", note(results)]
    show(results, as_json, [*tables, f"{folder}/chart-{length}.png"])
