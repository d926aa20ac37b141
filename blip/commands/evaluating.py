"""The command that says how good a model is at a task: `blip evaluate TASK PAIRS --model M`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from blip.commands.opening import Device, Model, chosen_device, note_prompt
from blip.commands.options import OPTIONS, Changes
from blip.commands.output import JsonFlag, show
from blip.config.loading import read_section
from blip.config.section import Section
from blip.config.sections import (
    Answering,
    Captioning,
    Evaluate,
    RerankBy,
    Reranking,
    VideoEvaluation,
    VqaScoring,
)
from blip.errors import BadArguments

app = typer.Typer()
PANEL = "Models"
TASKS = [name for name in Evaluate.model_fields if name != "batch_size"]


def usual(section: type[Section], name: str) -> Any:
    """What a setting is where it is not given."""
    return section.model_fields[name].default


@app.command(rich_help_panel=PANEL)
def evaluate(
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"{', '.join(TASKS)}.")],
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS", help="The pairs dataset to evaluate on.")],
    *,
    model: Model,
    train: Annotated[
        Path | None,
        typer.Option(
            metavar="PAIRS",
            help="Of vqa: the dataset whose answers may be given, or counted beside --answers.",
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Of vqa: a JSON list of what may be answered, as BLIP's answer_list.json."
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(help=f"Of vqa: answers compared by their likelihood; {usual(Answering, 'candidates')}."),
    ] = None,
    rerank: Annotated[
        int | None,
        typer.Option(
            help=f"Best candidates that the matching head scores again; {usual(Reranking, 'rerank')}, or "
            f"{usual(VideoEvaluation, 'rerank')} for video."
        ),
    ] = None,
    rerank_by: Annotated[
        RerankBy | None,
        typer.Option(help=f"How the cosine counts beside it; {usual(Reranking, 'rerank_by')}."),
    ] = None,
    beams: Annotated[
        int | None, typer.Option(help=f"Of captioning; {usual(Captioning, 'beams')}, and 1 is greedy.")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="Of classification: a text made of a class name, which goes where {} is; repeatable."
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            help=f"Of each clip; {usual(VideoEvaluation, 'frames')}, or {usual(VqaScoring, 'frames')} for vqa."
        ),
    ] = None,
    settings: Changes = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images, or frames, at once.")] = usual(
        Evaluate, "batch_size"
    ),
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write examples with their pictures and every prediction there."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of examples.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """How good a model is at a task, on pairs that it has not learnt from, beside what is reached without looking.

    As `blip stage evaluate@TASK` does it, and in any folder. What validation set aside beside the dataset is left out.
    --set takes the other settings of evaluate.TASK in params.yaml, as max_tokens of captioning. Published figures of
    captioning are of beams compared as normalise=whole does it, those of NoCaps of repetition_penalty=1.1 as well.

    Example: [bold]blip evaluate retrieval pairs/flickr-test --model models/retrieval --out seen/[/bold]

    Example: [bold]blip evaluate vqa pairs/vqa-val --train pairs/vqa-train --model models:/blip-vqa@champion[/bold]

    Example: [bold]blip evaluate captioning pairs/coco --model model_base_caption_capfilt_large.pth
    --set normalise=whole[/bold]
    """
    from blip.commands.scores import show_scores
    from blip.commands.terminal import Terminal
    from blip.data.pairs import PairsDataset, set_aside
    from blip.model.device import use_own_cores
    from blip.tasks.evaluation import Conditions, find_task, write_report
    from blip.tasks.evaluation import evaluate as evaluate_task
    from blip.tasks.outcome import ANSWERS
    from blip.tracking.registry import resolve

    given = {
        "train": str(train.resolve()) if train else None,
        "answers": str(answers.resolve()) if answers else None, "candidates": candidates, "rerank": rerank,
        "rerank_by": rerank_by, "beams": beams, "templates": template or None, "frames": frames,
    }  # fmt: skip
    dataset = pairs.resolve()
    how = read_options(task, find_task(task).settings, dataset, given, settings or [])
    if out and out.exists():
        raise BadArguments(f"--out {out} exists already; name another folder, or remove it first")
    where = Conditions(Path(), chosen_device(device), batch_size, seed)
    PairsDataset.open(dataset)  # is missed before a model is fetched
    use_own_cores()
    opened = resolve(model)
    if task == "captioning":
        note_prompt(opened)
    outcome = evaluate_task(task, opened, how, where)
    if out:
        write_report(out, task, outcome, how, where)
    written = "examples.json, images/, predictions.csv" + (f", {ANSWERS}" if outcome.answers else "")
    left_out = len(set_aside(dataset))
    if as_json:
        told = {
            "task": task,
            "model": model,
            "dataset": str(pairs),
            **digests(opened, dataset),
            "left_out": left_out,
        }
        show({**told, "settings": how.model_dump(), "metrics": outcome.metrics}, as_json, [])
    else:
        show_scores(task, outcome, f"{pairs} by {model}", left_out, Terminal())
        show(None, as_json, [f"{out}: {written}"] if out else [])


def read_options(
    task: str, section: type[Section], dataset: Path, given: dict[str, Any], changes: list[str]
) -> Section:
    """The settings of a task. Raises BadArguments for an option that it does not have, or one that it needs."""
    options = {name: value for name, value in given.items() if value is not None}
    known = [name for name in given if name in section.model_fields]
    if strange := [name for name in options if name not in known]:
        others = ", ".join(map(flag, known)) or "none of its own"
        raise BadArguments(f"{flag(strange[0])} is no option of {task}, which has {others}")
    if "train" in known and not {"train", "answers"} & set(options):
        raise BadArguments(
            f"{task} chooses among the answers of training questions, which the baseline gives, too: name the "
            "dataset that has them with --train, or a list of answers with --answers"
        )
    return read_section(section, {"data": str(dataset), **options}, changes, OPTIONS)


def flag(setting: str) -> str:
    """The option for a setting."""
    return "--template" if setting == "templates" else f"--{setting.replace('_', '-')}"


def digests(model: Path, dataset: Path) -> dict[str, str | None]:
    """Of the weights, where they are in a model directory, and of the samples: those that metrics/ has."""
    from blip.tracking.measured import data_digest
    from blip.tracking.registry import weights_digest

    return {"weights": weights_digest(model) if model.is_dir() else None, "data": data_digest(dataset)}
