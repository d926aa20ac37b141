"""What the training stages share: build a network and its data, train, save the model directory."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeVar, get_args

import torch
from pydantic import TypeAdapter

from blip.atomic import write_json
from blip.config import IMMATERIAL, Model, Objective, Run, Settings, Training
from blip.config.places import DATASETS, RUNS, VALIDATED, VOCABULARY
from blip.data import kept
from blip.data.loader import Batch, PairLoader
from blip.data.pairs import PairsDataset, excluded_keys
from blip.data.text import SpecialTokens, Tokenizer
from blip.digest import file_sha256
from blip.errors import BlipError
from blip.model.adapt import adapted
from blip.model.api import Blip
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.checkpoints import WEIGHTS, save_model
from blip.model.config_json import ModelCard
from blip.model.dialogs import DialogObjective
from blip.model.nlvr import NlvrNetwork, pre_trained, save_nlvr
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.model.parts import HEADS, LEARNS, still_missing
from blip.model.starting import load_starting_text, load_starting_vision, open_start
from blip.model.statements import StatementObjective
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig
from blip.model.vqa import AnswerObjective, untie
from blip.tracking.following import following
from blip.tracking.lineage import digest, flatten
from blip.tracking.registry import resolve
from blip.tracking.runs import StageRun
from blip.training.collate import DialogCollate, PairCollate, QuestionCollate, StatementCollate
from blip.training.engine import choose_device
from blip.training.flops import ASKED_FLOPS, pair_flops
from blip.training.health import said_in
from blip.training.launch.crew import Crew, current_crew
from blip.training.launch.place import Place
from blip.training.launch.store import rank_and_world
from blip.training.loop import CURVE, SUMMARY, WARNINGS, Plan, train
from blip.training.owner import keep_to_itself

DISTRACTORS = 100_000  # texts of a dataset to draw distractors from

# Of tasks that have one loss and ask about pictures
LOSSES = {"questions": "answers", "statements": "statements", "dialogs": "itm"}
COLLATES = {"questions": QuestionCollate, "statements": StatementCollate, "dialogs": DialogCollate}

Task = Literal["pairs", "questions", "statements", "dialogs"]
Value = TypeVar("Value")
Network = BlipNetwork | NlvrNetwork
Objectives = PairObjective | AnswerObjective | StatementObjective | DialogObjective


@dataclass(frozen=True)
class Job:
    """One training run of the pipeline.

    Attributes:
        name: of the stage, or of the part of it that is trained here.
        task: ``pairs`` (ITC, ITM, LM), ``questions`` (VQA), ``statements`` (NLVR2) or ``dialogs`` (VisDial).
        start: the model directory to go on from; None starts a new model.
        target: the model directory to write.
        prefix: of what the run tells MLflow, where a stage trains more than one model.
        run_id: of the MLflow run, for the checkpoints and for the sampling of the ranks' nodes.
    """

    name: str
    run: Run
    task: Task
    start: Path | None
    target: Path
    prefix: str = ""
    run_id: str = ""

    @property
    def figures(self) -> str:
        """What its figures' names begin with: ``finetune.vqa`` of ``finetune@vqa``."""
        return self.name.replace("@", ".")


JOB = TypeAdapter(Job)


def run_job(job: Job, settings: Settings, run: StageRun) -> Path:
    """Train on as many ranks as the settings say; returns the directory of the saved model, for its validation.

    Its checkpoints stay until the stage has written its figures: one that is ended before goes on from the last step.
    """
    keep_to_itself(RUNS / job.name)  # before the ranks' orders and the curve of another process are touched
    job = replace(job, run_id=run.run_id)
    crew = current_crew() or Crew(Place(), settings.launch)
    ranks, threads = job.run.training.ranks, threads_of(job.run, settings, crew.place)
    with following(run, RUNS / job.name / CURVE, job.prefix):
        if ranks == crew.place.nodes == 1:
            torch.set_num_threads(threads)
            train_here(job, settings)
        else:
            marker = RUNS / job.name / "saved.json"
            write_job(job, settings)
            crew.run(job.name, ranks, ["blip.stages.rank", job.name], marker, threads)
    run.figures |= training_figures(job)
    run.set_tags(warnings_of(job))
    run.trained.append(job.name)
    length = job.run.steps or f"{job.run.epochs} epochs"
    run.log_params(_named(job, {"trained.steps": length, "ranks": ranks}))
    return job.target


def training_figures(job: Job) -> dict[str, float]:
    """Speed, MFU, memory and wait of the training run, as figures of its stage: ``pretrain.training.mfu``."""
    summary = json.loads((RUNS / job.name / SUMMARY).read_text(encoding="utf-8"))
    return {f"{job.figures}.training.{key}": float(f"{value:.6g}") for key, value in summary.items()}


def warnings_of(job: Job) -> dict[str, str]:
    """The signs that the run learnt nothing, as tags of its MLflow run: ``warning.itm_at_prior``."""
    said = said_in(RUNS / job.name / WARNINGS)
    return {f"warning.{job.prefix}{name}": text for name, text in said.items()}


def write_job(job: Job, settings: Settings) -> None:
    """Write down what the ranks that are about to start have to do."""
    values = {
        "job": JOB.dump_python(job, mode="json"),
        "settings": settings.model_dump(mode="json", by_alias=True),
    }
    write_json(RUNS / f"{job.name}.job.json", values)


def read_job(name: str) -> tuple[Job, Settings]:
    """What a rank has to do, by the name of its job."""
    values = json.loads((RUNS / f"{name}.job.json").read_text(encoding="utf-8"))
    return JOB.validate_python(values["job"]), Settings.model_validate(values["settings"])


def _named(job: Job, values: Mapping[str, Value]) -> dict[str, Value]:
    return {f"{job.prefix}{name}": value for name, value in values.items()}


def threads_of(run: Run, settings: Settings, place: Place | None = None) -> int:
    """CPU threads of one rank: the run's own number, or its share of those that a stage has on a machine.

    Args:
        place: whose machines the ranks are on; None: all are on this one.
    """
    beside = (place or Place()).beside(run.training.ranks)
    return run.training.threads or max(settings.compute.threads // beside, 1)


def train_here(job: Job, settings: Settings) -> None:
    """Train in this process, one rank of however many, and save the model on rank 0."""
    choose_device(settings.compute.device)
    torch.manual_seed(settings.seed)
    rank, world = rank_and_world()
    model = job.run.model or settings.model
    network, tokenizer, missing = _network(job, settings, model)
    if not job.run.optimiser.vision_lr:
        network.vision.requires_grad_(False)  # locked: no gradient, no optimiser state, no twin of its own
    loader = _loader(job, settings, network.config.vision.image_size, rank, world)
    objective = objective_of(job, network, tokenizer.special_tokens)
    collate = _collate(job, tokenizer, model, settings.seed)
    card = ModelCard(
        job.name,
        job.run.objective.prompt,
        model.text.max_tokens,
        missing=still_missing(missing, _losses(job)),
    )
    export = partial(_save, objective, tokenizer, card)
    torch.manual_seed(settings.seed + rank)
    plan = Plan(
        job.name,
        objective,
        loader,
        collate,
        job.run,
        settings.compute,
        _identity(job, settings, tokenizer),
        pair_flops=published_flops(job, network, model),
        export=export,
        patience=(settings.launch.hang_timeout, settings.launch.start_timeout),
        run_id=job.run_id,
        unset=unset_of(job.run, settings),
    )
    train(plan)
    if rank == 0:
        export(job.target)
        write_json(RUNS / job.name / "saved.json", {"model": str(job.target)})


def _save(objective: Objectives, tokenizer: Tokenizer, card: ModelCard, directory: Path) -> None:
    if isinstance(objective, StatementObjective):
        save_nlvr(objective.network, tokenizer, directory, card)
    else:
        save_model(objective.network, tokenizer, directory, card)


def published_flops(job: Job, network: Network, model: Model) -> float:
    """The published work of one picture (or pair of pictures) of the run, in FLOP."""
    objective, locked = job.run.objective, not job.run.optimiser.vision_lr
    tokens, config = model.text.max_tokens, BlipConfig(network.config.vision, network.config.text)
    if job.task == "pairs":
        parts = pair_flops(
            config,
            tokens,
            itc=bool(objective.itc),
            itm=bool(objective.itm),
            lm=bool(objective.lm),
            momentum=objective.contrast == "softmax",
            locked_vision=locked,
            captions=objective.captions_per_image,
        )
    else:
        asked = objective.questions_per_image
        parts = ASKED_FLOPS[job.task](config, tokens, asked=asked, locked_vision=locked)
    return sum(parts.values())


def _identity(job: Job, settings: Settings, tokenizer: Tokenizer) -> dict[str, Any]:
    """What a job's checkpoints must agree on: also the vocabulary of a new model, which learns it by its numbers."""
    identity = identity_of(job.run, settings) | {"start": start_of(job, settings)}
    if identity["start"] is None:
        identity["vocabulary"] = kept.digest_of([tokenizer.vocabulary, tokenizer.keeps_accents])
    return identity


def identity_of(run: Run, settings: Settings) -> dict[str, Any]:
    """What a training run is made of, but for the model that it starts from."""
    datasets = (*dict(run.mixture), *run.distractors)
    return {
        "run": run.model_dump(mode="json", exclude={"training": _immaterial(run.training)}),
        "batch": run.training.batch_size * run.training.accumulate * run.training.ranks,
        "model": (run.model or settings.model).model_dump(mode="json"),
        "compute": settings.compute.model_dump(mode="json", include={"dtype"}),
        "data": [PairsDataset.open(DATASETS / name).digest for name in datasets],
        "excluded": {name: kept.digest_of(sorted(excluded_keys(VALIDATED, name))) for name in datasets},
        "seed": settings.seed,
    }


def unset_of(run: Run, settings: Settings) -> set[str]:
    """Names in the identity of settings that are what they are by default, and of data with nothing left out."""
    told, model = identity_of(run, settings), run.model or settings.model
    chosen = {
        "run": run.model_dump(mode="json", exclude_defaults=True),
        "model": model.model_dump(mode="json", exclude_defaults=True),
        "excluded": {name: keys for name, keys in told["excluded"].items() if keys != kept.digest_of(())},
    }
    named = {part: flatten(part, values).keys() for part, values in chosen.items()}
    return {name for part, names in named.items() for name in flatten(part, told[part]) if name not in names}


def _immaterial(training: Training) -> set[str]:
    """What another life of a run may have otherwise: with lanes also who computes how much of a step."""
    shared = {"ranks", "batch_size", "accumulate"} if training.lanes else set()
    return {*IMMATERIAL, "spikes", *shared}  # spikes: what an end of the run advises to change


def start_digest(directory: Path | None) -> str | None:
    """SHA-256 of a model's weights; None for no model. Raises BlipError if they are not there."""
    if directory is None:
        return None
    path = directory / WEIGHTS
    if not path.is_file():
        raise BlipError(f"{directory} is missing; run the stage that makes it first (`dvc repro`)")
    return file_sha256(path)


def start_of(job: Job, settings: Settings) -> str | None:
    """SHA-256 of the weights that a job goes on from; None where it starts a new model."""
    model = job.run.model or settings.model
    if job.start is not None or not model.starts_whole:
        return start_digest(job.start)
    return digest(start_weights(model))


def open_dataset(name: str) -> tuple[PairsDataset, frozenset[str]]:
    """A dataset of the pipeline, and the keys to leave out; validation set them aside."""
    return PairsDataset.open(DATASETS / name), excluded_keys(VALIDATED, name)


def _losses(job: Job) -> list[str]:
    """The losses that a job trains by, as `blip.model.parts` names them."""
    if job.task == "pairs":
        return [name for name in ("itc", "itm", "lm") if getattr(job.run.objective, name)]
    return [LOSSES[job.task]]


def _network(job: Job, settings: Settings, model: Model) -> tuple[Network, Tokenizer, tuple[str, ...]]:
    """A new network of the settings' sizes; or that of the starting model, with the settings' pixels and rates.

    Returns:
        the network, its tokenizer, and the parts that hold initial values: those that a starting model lacks, or all
        heads of a new one.
    """
    if opened := _starting_model(job, settings, model):
        vision = model.vision
        network = untie(opened.network) if job.task == "questions" else opened.network
        network = adapted(
            network, model.image_size, vision.drop_path, vision.patch_dropout, model.text.dropout
        )
        made = pre_trained(network) if job.task == "statements" else network
        return made.train(), opened.tokenizer, opened.card.missing
    tokenizer = Tokenizer.from_vocabulary(settings.ingest.vocabulary.file or VOCABULARY / "vocab.txt")
    network = BlipNetwork(network_config(model, len(tokenizer)))
    if model.start:
        load_starting_vision(network, Path(model.start))
    if model.text_start:
        load_starting_text(network, Path(model.text_start))
    return network, tokenizer, HEADS


def _starting_model(job: Job, settings: Settings, model: Model) -> Blip | None:
    """What the job goes on from: an earlier stage's model, or the whole BLIP that the settings name; or none."""
    if job.start is not None:
        return Blip.open(job.start, learns=True)
    return whole_start(model, settings) if model.starts_whole else None


def whole_start(model: Model, settings: Settings) -> Blip:
    """The whole BLIP that the settings name: a directory, a published file, an id of the hub, or one of the registry.

    Raises:
        BlipError: there is none, it has other sizes, or it lacks a head that the settings ask for and never train.
    """
    try:
        path = resolve(str(model.start))
    except BlipError as error:
        raise BlipError(f"model.start: {error}") from None
    opened = open_start(path, network_config(model, vocabulary=1))
    for name, start, loss in settings.untrained():
        if lacking := [part for part in LEARNS[loss] if part in opened.card.missing]:
            raise BlipError(
                f"{path} has no {' and no '.join(lacking)}, and {name}.objective.{loss} and {start}.objective.{loss} "
                "are 0, so nothing would train it; give one of the two a weight"
            )
    return opened


def start_weights(model: Model) -> Path:
    """The file of the weights of the whole BLIP that the settings name."""
    path = resolve(str(model.start))
    return path / WEIGHTS if path.is_dir() else path


def network_config(model: Model, vocabulary: int) -> BlipConfig:
    """The network that params.yaml describes, for a vocabulary of that many entries."""
    vision, text = model.vision, model.text
    return BlipConfig(
        VisionConfig(
            model.image_size,
            model.patch_size,
            vision.width,
            vision.layers,
            vision.heads,
            drop_path=vision.drop_path,
            patch_dropout=vision.patch_dropout,
        ),
        TextConfig(
            vocabulary,
            text.width,
            text.layers,
            text.heads,
            dropout=text.dropout,
            context_width=vision.width,
        ),
        model.projection,
    )


def _loader(job: Job, settings: Settings, image_size: int, rank: int, world: int) -> PairLoader:
    training = job.run.training
    if world != training.ranks:
        raise BlipError(f"{job.name}: {world} ranks were started, training.ranks says {training.ranks}")
    return PairLoader(
        [open_dataset(name) for name, _ in job.run.mixture],
        weights=[weight for _, weight in job.run.mixture],
        workers=training.workers,
        batch_size=training.batch_size,
        image_size=image_size,
        seed=settings.seed,
        rank=rank,
        world=world,
        lanes=training.lanes,
        accumulate=training.accumulate,
        shuffle_buffer=training.shuffle_buffer,
        crop_scale=training.crop_scale,
        flip=training.flip,
        randaugment=training.randaugment,
        partners=job.task == "statements",
    )


def objective_of(job: Job, network: Network, tokens: SpecialTokens) -> Objectives:
    """What a job's network learns by.

    Raises:
        BlipError: there is no such task, or the network is not of it.
    """
    settings = job.run.objective
    if isinstance(network, NlvrNetwork):
        if job.task == "statements":
            return StatementObjective(network)
    elif job.task == "dialogs":
        return DialogObjective(network)
    elif job.task == "questions":
        return AnswerObjective(network, tokens, settings.label_smoothing)
    elif job.task == "pairs":
        return PairObjective(network, objective_config(settings), tokens)
    raise BlipError(
        f"{job.name}: a {type(network).__name__} has nothing to learn the task {job.task!r} by; "
        f"the tasks are {', '.join(get_args(Task))}"
    )


def _collate(job: Job, tokenizer: Tokenizer, model: Model, seed: int) -> Callable[[Batch], Any]:
    settings = job.run.objective
    if job.task != "pairs":
        return COLLATES[job.task](tokenizer, model.text.max_tokens, settings.questions_per_image)
    return PairCollate(
        tokenizer,
        model.text.max_tokens,
        settings.positives,
        settings.captions,
        settings.prompt,
        settings.captions_per_image,
        {**settings.caption_weights},
        _distractors(job.run, seed),
    )


def objective_config(settings: Objective) -> ObjectiveConfig:
    """The settings that are the network's objective, and not the batches'."""
    names = {field.name for field in fields(ObjectiveConfig)}
    return ObjectiveConfig(**{n: v for n, v in settings.model_dump().items() if n in names})


def _distractors(run: Run, seed: int) -> list[str]:
    """Texts of the run's distractor datasets, at most `DISTRACTORS` of each, from parts of it drawn at random."""
    found: list[str] = []
    for name in run.distractors:
        dataset, excluded = open_dataset(name)
        texts = (text for text in dataset.texts(excluded, Random(seed)) if text)
        found += islice(texts, DISTRACTORS)
    if run.distractors and not found:
        raise BlipError(f"distractors: {', '.join(run.distractors)} have no text to draw from")
    return found
