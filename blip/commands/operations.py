"""Commands for those who run it: settings, promote, doctor."""

import math
import os
from pathlib import Path
from typing import Annotated

import typer

from blip.commands.options import Changes, Recipe
from blip.commands.output import JsonFlag, columns, show
from blip.doctor.scaling import GPUS
from blip.errors import FAILED, BadArguments

app = typer.Typer()
PANEL = "Operations"


@app.command(rich_help_panel=PANEL)
def settings(
    recipe: Recipe = None,
    changes: Changes = None,
    out: Annotated[Path | None, typer.Option(help="Write them into this file.")] = None,
    watch: Annotated[Path | None, typer.Option(help="And what DVC compares of them into this one.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show all settings: those of params.yaml with the recipe laid over them, and what neither names.

    The first stage of dvc.yaml writes them down. The others run again when settings change that they read.

    Example: [bold]blip settings --recipe base-14m[/bold]
    """
    import yaml

    from blip.atomic import write_text
    from blip.config import load_settings, read_override, watched
    from blip.config.dvc_yaml import has_stage, unkept, unwatched_files
    from blip.config.places import DATASETS
    from blip.stages.gated import require_gate
    from blip.training.launch.hostfile import require_room

    found = load_settings(recipe=recipe, overrides=dict(map(read_override, changes or [])))
    values, told = found.model_dump(mode="json", by_alias=True), []
    if out:  # the first stage of all, which tells early what the last ones would run into
        require_room(found.launch, {name: run.training.ranks for name, run in found.runs.items()})
        found.require_data(has_stage)
        if has_stage("register"):
            require_gate(found)
        if has_stage("compare"):
            found.require_embeddings()
        if found.recipe:
            told += without_effect(found.recipe)
    for file, part in ((out, values), (watch, watched(found))):
        if file:
            write_text(file, yaml.safe_dump(part, sort_keys=False, allow_unicode=True))
            told.append(f"wrote {file}")
    if watch:
        told += [
            f"note: DVC does not see when {file} changes: add it to the deps of {', '.join(stages)} in dvc.yaml"
            for file, stages in unwatched_files(found).items()
        ]
        told += [
            f"note: DVC does not know that ingest makes {made}: add `{made}: {{persist: true}}` to its outs in dvc.yaml"
            for made in (DATASETS / name for name in unkept(found.ingest))
        ]
    show(values, as_json, told or yaml.safe_dump(values, sort_keys=False, allow_unicode=True).splitlines())


def without_effect(recipe: str) -> list[str]:
    """Notes on what was edited in params.yaml since the last commit and the recipe sets itself.

    Raises:
        BadArguments: it is an experiment of DVC's, which would be one without what it tries.
    """
    from blip.config import PARAMS, overruled
    from blip.tracking.lineage import git

    experiment = os.environ.get("DVC_EXP_BASELINE_REV")
    before = git("show", f"{experiment or 'HEAD'}:./{PARAMS}")
    idle = overruled(before, recipe) if before is not None else {}
    if not idle:
        return []
    said = ", ".join(
        f"{name} ({here} there, {counts} in the recipe)" for name, (here, counts) in idle.items()
    )
    note = (
        f"the recipe {recipe!r} is laid over params.yaml and sets itself what was changed there: {said}; change it in "
        "the recipe, copy the recipe under another name, or take it out (recipe: null)"
    )
    if experiment:
        raise BadArguments(note)
    return [f"note: {note}"]


@app.command(rich_help_panel=PANEL)
def promote(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A registered model, as blip-captioning.")],
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The version to make champion.")],
    as_json: JsonFlag = False,
) -> None:
    """Make a version of a registered model its champion, the one that models:/NAME@champion gives.

    Example: [bold]blip promote blip-captioning 2[/bold]
    """
    from blip.tracking import registry, store

    with store.takes(f"version {version} of {name}", "give it again once that is mended"):
        promoted = registry.promote(name, version)
    result = {"name": promoted.name, "version": promoted.number, "alias": "champion"}
    show(result, as_json, [f"{promoted.name} version {promoted.number} is champion"])


def finite(option: typer.CallbackParam, value: float | None) -> float | None:
    """The value of an option. Raises BadArguments for infinity, and for what is no number."""
    if value is not None and not math.isfinite(value):
        raise BadArguments(f"{option.opts[0]} {value}: give a finite number, as 15.3e6")
    return value


@app.command(rich_help_panel=PANEL)
def doctor(
    recipe: Recipe = None,
    stage: Annotated[str | None, typer.Option(help="The training stage to look at, with its recipe.")] = None,
    changes: Changes = None,
    gpu: Annotated[
        str | None,
        typer.Option(help=f"Plan for this GPU instead of this machine: {', '.join(GPUS)}."),
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs of a node.")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes.")] = 1,
    samples: Annotated[
        float | None,
        typer.Option(min=1, callback=finite, help="Samples of an epoch, where the data are not here."),
    ] = None,
    price_per_gpu_hour: Annotated[
        float | None, typer.Option(min=0, callback=finite, help="What a GPU costs for an hour.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Look at this machine and folder, and say what stands in the way of a run; exit 1 if something does.

    With a recipe or a stage: all that a training stage needs, its memory, speed and cost, before it starts. Without a
    stage that is pretrain, and of the others what does not fit.

    Example: [bold]blip doctor --recipe base-14m --gpu h100 --gpus 8 --nodes 4 --samples 15.3e6[/bold]
    """
    if any((recipe, stage, gpu, changes, gpus, nodes > 1, samples, price_per_gpu_hour)):
        from blip.config import load_settings, read_override
        from blip.doctor.plan import Devices
        from blip.doctor.recipe import examine_others, examine_recipe

        settings = load_settings(recipe=recipe, overrides=dict(map(read_override, changes or [])))
        settings.require_data(lambda name: stage in (None, name))
        devices = Devices(gpu, gpus, nodes)
        first = stage or "pretrain"
        findings = list(examine_recipe(settings, first, devices, samples, price_per_gpu_hour))
        if not stage:
            findings += examine_others(settings, first, devices)
    else:
        from blip.doctor.machine import examine

        findings = list(examine())
    rows = [(finding.state, finding.subject, finding.text) for finding in findings]
    show([vars(finding) for finding in findings], as_json, columns(rows))
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(FAILED)
